"""The commented ``input.yaml`` of ``aiida-aceal init``."""

from __future__ import annotations

from collections.abc import Sequence

from aiida_aceal.inputs.methods import Method
from aiida_aceal.inputs.propose import Proposal

#: what is said of the kind of system
KINDS = {
    "molecule": "a molecule: runs at constant volume, many short walkers",
    "liquid": "molecules in a box: runs at the density of the file, many short walkers",
    "slab": "a slab: the direction of the vacuum is not repeated, runs at constant volume",
    "alloy": "an alloy: elements change places in the first structures",
    "crystal": "a crystal",
}


def input_text(
    proposal: Proposal, method: Method, structure: str | None, data: Sequence[str] = (), n_labelled: int = 0
) -> str:
    """The file.

    :param structure: as a `structure` of the input: a mapping in YAML's flow style; ``None``: the first of ``data``
    :param data: files with labels
    :param n_labelled: structures in them
    """
    p = proposal
    low, high = p.temperature
    start = f"kind: supercells, structure: {structure}, sizes: [{p.md_cell}]"
    if structure is None:
        start = f"kind: files, paths: ['{data[0]}'], index: '0:{p.walkers}'"
    parts = [
        f"# {p.formula}, {KINDS[p.kind]}.",
        "# Written by aiida-aceal init: a start, not the last word.",
        "# Check with: aiida-aceal run input.yaml --dry-run. All keys: aiida-aceal run --keys",
        f"title: {p.formula}, {low:g} to {high:g} K, {method.title}",
        "seed: 0",
        "",
        "# linear ACE; everything that is not stated comes from the protocol: fast, balanced or precise",
        f"protocol: {p.protocol}",
        "basis:",
        f"  cutoff: {p.cutoff:g}                       # Angstrom",
        "  # below r_in, which is 0.72 times the shortest distance of the structure, a repulsion takes over",
        "  core-repulsion: [100.0, 5.0]",
        *_repulsion(p),
        "",
        *(_initial(p, structure) if structure is not None and not data else []),
        *_data(data, n_labelled),
        *_held_out(p, method, structure, bool(data), n_labelled),
        "",
        method.text.rstrip(),
        "",
        f"# {p.steps * p.timestep:g} ps from {low:g} to {high:g} K; the time step suits the lightest atom",
        "explore:",
        "  md:",
        f"    start: [{{{start}}}]",
        "    settings:",
        f"      ensemble: {p.ensemble}",
        f"      temperature_K: {low:g}",
        f"      temperature_end_K: {high:g}",
        f"      timestep_ps: {p.timestep:g}",
        f"      steps: {p.steps}",
        "      gamma_interval: 10",
        *([f"      walkers: {p.walkers}"] if p.walkers > 1 and structure is not None else []),
        "",
        f"# at most {p.n_select} labels in each of at most {p.n_generations} generations",
        f"selection: {{strategy: d_optimal, count: {p.n_select}}}",
        "# candidates: gamma above gamma_lo; runs halt above gamma_hi; done when complete runs stay below gamma_stop",
        "window: {policy: fixed, gamma_lo: 2.0, gamma_hi: 25.0, gamma_stop: 5.0}",
        f"loop: {{max_generations: {p.n_generations}}}",
    ]
    text = "\n".join(parts) + "\n"
    if structure is None:
        return text
    head, body, rest = text.partition(structure)
    return head + f"&cell {body}" + rest.replace(structure, "*cell")


def _repulsion(p: Proposal) -> list[str]:
    pairs = list(p.repulsion)
    r_in, delta = min(p.repulsion.values())
    lines = [f"  r_in: {r_in:g}", f"  delta_in: {delta:g}"]
    if len(pairs) > 1:
        lines.append("  bonds:")
        lines += [f"    {pair}: {{r_in: {a:g}, delta_in: {b:g}}}" for pair, (a, b) in p.repulsion.items()]
    return lines


def _initial(p: Proposal, structure: str) -> list[str]:
    share = 0.5 if p.kind in ("crystal", "alloy", "slab") else 1.0
    low, high = p.amplitude
    n_first = round(share * p.n_initial)
    lines = [
        "# first structures to label: near the given one, so that there is something to learn",
        "initial:",
        "  - kind: rattled",
        f"    structure: {structure}",
        f"    supercell: {p.label_cell}",
        f"    amplitude: [{low:g}, {high:g}]",
        f"    count: {n_first}",
    ]
    rest = p.n_initial - n_first
    if p.kind == "alloy":
        lines += [
            "  - kind: substituted                # other arrangements of the elements",
            f"    structure: {structure}",
            f"    supercell: {p.label_cell}",
            f"    fractions: {{{', '.join(f'{el}: {x:g}' for el, x in p.fractions.items())}}}",
            f"    rattle: {high / 2:g}",
            f"    count: {rest // 2}",
        ]
        rest -= rest // 2
    if rest:
        lines += [
            "  - kind: strained",
            f"    structure: {structure}",
            f"    supercell: {p.label_cell}",
            "    strain: 0.05",
            f"    rattle: {high / 2:g}",
            f"    count: {rest}",
        ]
    return [*lines, ""]


def _data(data: Sequence[str], n_labelled: int) -> list[str]:
    if not data:
        return []
    return [f"# {n_labelled} structures that have labels", f"dataset: [{', '.join(repr(name) for name in data)}]", ""]


def _held_out(p: Proposal, method: Method, structure: str | None, with_data: bool, n_labelled: int) -> list[str]:
    roles = {
        "validation": "never fitted: decides whether a new potential is accepted, and which one is the best",
        "test": "decides nothing: the errors of the final potential on it are reported",
    }
    lines = []
    for number, (role, what) in enumerate(roles.items()):
        lines.append(f"# {what}")
        if with_data:
            share = 0.1 if n_labelled >= 50 else 0.2
            lines.append(f"{role}: {share:g}                       # of the data, by origin")
        elif method.dynamics is not None:
            steps, interval = method.dynamics
            lines += [
                f"{role}:",
                f"  start: [{{kind: rattled, structure: {structure}, supercell: {p.label_cell}, "
                f"amplitude: {p.amplitude[0] + 0.01 * number:g}, count: 1}}]",
                f"  temperature: [{p.temperature[0]:g}, {p.temperature[1]:g}]",
                f"  steps: {steps}",
                f"  interval: {interval}",
                f"  timestep: {p.timestep:g}",
            ]
        else:
            lines += [
                f"{role}:",
                "  - kind: rattled",
                f"    structure: {structure}",
                f"    supercell: {p.label_cell}",
                f"    amplitude: [{p.amplitude[0]:g}, {1.5 * p.amplitude[1]:g}]",
                f"    count: {p.n_validation if role == 'validation' else p.n_test}",
            ]
    return lines
