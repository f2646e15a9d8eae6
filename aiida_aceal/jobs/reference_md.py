"""``reference-md``: dynamics (properties ``md``, ``melting``) by an ASE calculator alone, which no potential enters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida_aceal.common.errors import AceError

from .declaration import Input, Job, Output

if TYPE_CHECKING:
    from ase import Atoms

    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """Runs of the crystal as it is given; what fails is named, and the rest goes on."""
    from aiida_aceal.labels.calculators import calculator_spec
    from aiida_aceal.properties import Engine, Fixed, Relaxer
    from aiida_aceal.properties.names import property_names
    from aiida_aceal.properties.run import part_of
    from aiida_aceal.properties.start import prepare

    settings = task.settings
    spec = calculator_spec(settings.calculator, settings.kwargs or {})
    start = prepare(list(task.configurations("structure"))[:1], Fixed(), (), settings.symprec)
    relaxer = Relaxer(Engine(spec.create, spec.name))
    frames: list[Atoms] = []
    failed: dict[str, str] = {}
    for name in property_names(settings.properties):
        module, section = part_of(name, settings)
        try:
            frames += module.structures(section, start, relaxer)
        except AceError as error:
            failed[name] = str(error)
            task.echo(f"{name}: {error}")
    if not frames:
        raise AceError("; ".join(failed.values()))
    task.write("frames", frames)
    task.echo(f"{len(frames)} frames of {len(frames[0])} atoms")
    return {"calculator": spec.describe(), "n_frames": len(frames), "failed": failed, "seconds": task.seconds}


JOB = Job(
    "reference-md",
    "Dynamics of the crystal STRUCTURE with an ASE calculator, as the properties `md` and `melting` ask for.",
    run,
    "aiida_aceal.properties.settings:ReferenceMdSettings",
    inputs=(Input("structure", "configurations", "The crystal; of several structures the first.", many=True),),
    outputs=(Output("frames", "configurations", "Frames of the runs, with energies and forces."),),
    source=lambda settings: f"md {settings['calculator']}",
)
