"""``reference-md``: the dynamics of the property ``md`` by an ASE calculator alone, which no potential enters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """NVE and NPT of the crystal as it is given."""
    from aiida_aceal.labels.calculators import calculator_spec
    from aiida_aceal.properties import Engine, Fixed, Relaxer
    from aiida_aceal.properties.md import structures
    from aiida_aceal.properties.start import prepare

    settings = task.settings
    spec = calculator_spec(settings.calculator, settings.kwargs or {})
    start = prepare(list(task.configurations("structure"))[:1], Fixed(), (), settings.symprec)
    frames = structures(settings.md, start, Relaxer(Engine(spec.create, spec.name)))
    task.write("frames", frames)
    task.echo(f"{len(frames)} frames of {len(frames[0])} atoms")
    return {"calculator": spec.describe(), "n_frames": len(frames), "seconds": task.seconds}


JOB = Job(
    "reference-md",
    "Dynamics of the crystal STRUCTURE with an ASE calculator, as the property `md` asks for.",
    run,
    "aiida_aceal.properties.settings:ReferenceMdSettings",
    inputs=(Input("structure", "configurations", "The crystal; of several structures the first.", many=True),),
    outputs=(Output("frames", "configurations", "Frames of the runs, with energies and forces."),),
    source=lambda settings: f"md {settings['calculator']}",
)
