"""Seeded generators of first structures.

Each takes a random generator and a base structure and returns new ``ase.Atoms`` without calculators. Structures
with atoms nearer than ``minimum_distance`` are drawn again; a request that cannot be met raises :class:`AceError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.build import surface as ase_surface

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting

from .distances import minimum_distances, pair_key, parse_pair, short_pairs, too_short

MinimumDistance = Annotated[
    float | Mapping[str, float] | None,
    setting(help="Shortest distance, for all pairs or by pair; by default from covalent radii.", unit="A", ge=0),
]
Count = Annotated[int, setting(help="Number of structures of each base.", ge=0)]
Rattle = Annotated[float, setting(help="Standard deviation of displacements of all atoms.", unit="A", ge=0)]
Box = Annotated[float | None, setting(help="Edge of a periodic cubic cell; null: no cell.", unit="A", ge=0)]
Composition = Annotated[Mapping[str, int], setting(help="Number of atoms of each element, such as {Li: 4}.", ge=0)]
#: how often one structure is drawn before the request is called impossible
ATTEMPTS = 200
#: atoms of one generated structure, and structures of one entry: more is a slip of the pen
MAX_ATOMS = 200_000
MAX_STRUCTURES = 2000
#: atoms that are drawn at random: of clusters, which must be connected, and of boxes
MAX_CLUSTER, MAX_PACKED = 100, 2000


def _draw(make: Callable[[], Atoms], minimum_distance: MinimumDistance, what: str) -> Atoms:
    for _ in range(ATTEMPTS):
        atoms = make()
        if not too_short(atoms, minimum_distances(atoms.symbols, minimum_distance)):
            return atoms
    raise AceError(
        f"{what}: every one of {ATTEMPTS} draws had distances that are too short; "
        "lower the amplitude or minimum_distance (A, by pair), or give more volume"
    )


def _shake(atoms: Atoms, amplitude: float, rng: np.random.Generator) -> Atoms:
    if amplitude > 0:
        atoms.positions += rng.normal(scale=amplitude, size=atoms.positions.shape)
    return atoms


def _strain(atoms: Atoms, strain: np.ndarray) -> Atoms:
    new = atoms.copy()
    new.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return new


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0:
        raise AceError(f"{name}: {value!r} is not a number, 0 or larger")
    return float(value)


def _span(name: str, value: float | Sequence[float], low: float = 0.0) -> tuple[float, float]:
    """A number (from ``low`` to it) or a pair [from, to]."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        first, last = (_positive(name, item) for item in value)
    else:
        first, last = low, _positive(name, value)  # type: ignore[arg-type]
    if first > last:
        raise AceError(f"{name}: {value!r} runs backwards; give [smallest, largest]")
    return first, last


def _periodic(what: str, atoms: Atoms) -> None:
    if not atoms.pbc.any():
        raise AceError(f"{what} needs a periodic structure; {atoms.get_chemical_formula()} has none")


def supercells(
    rng: np.random.Generator,
    structure: Atoms,
    sizes: Annotated[
        tuple[Any, ...], setting(help="Repetitions, each a number, three numbers, or a matrix of 3x3 integers.")
    ] = ((1, 1, 1), (2, 2, 2)),
) -> list[Atoms]:
    """The structure itself, repeated by each of ``sizes`` (three numbers, or a 3x3 integer matrix)."""
    cells = []
    for size in sizes:
        matrix = np.array([size] * 3 if isinstance(size, int) else size)
        if matrix.shape == (3,):
            matrix = np.diag(matrix)
        if matrix.shape != (3, 3) or matrix.dtype.kind not in "iu" or abs(round(np.linalg.det(matrix))) < 1:
            raise AceError(f"supercells: {size!r} is neither three positive integers nor a 3x3 integer matrix")
        count = len(structure) * abs(round(np.linalg.det(matrix)))
        if count > MAX_ATOMS:
            raise AceError(
                f"supercells: {size!r} makes {count:.3g} atoms of {len(structure)}, at most {MAX_ATOMS} are allowed"
            )
        cells.append(make_supercell(structure, matrix))
    return cells


def rattled(
    rng: np.random.Generator,
    structure: Atoms,
    count: Count = 10,
    amplitude: Annotated[
        float | Sequence[float],
        setting(help="Standard deviation of displacements, or [smallest, largest].", unit="A", ge=0),
    ] = 0.1,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """Normal displacements of all atoms; ``amplitude`` (A, standard deviation) or [smallest, largest], drawn evenly."""
    low, high = _span("rattled amplitude", amplitude, low=-1.0)
    low = high if low < 0 else low
    return [
        _draw(lambda: _shake(structure.copy(), rng.uniform(low, high), rng), minimum_distance, "rattled")
        for _ in range(count)
    ]


def strained(
    rng: np.random.Generator,
    structure: Atoms,
    count: Count = 10,
    strain: Annotated[float, setting(help="Largest component of the strains.", ge=0)] = 0.05,
    rattle: Rattle = 0.0,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """Random symmetric strains: each component even in [-strain, strain], then normal displacements of ``rattle`` A."""
    _periodic("strained", structure)
    limit = _positive("strained strain", strain)
    if limit >= 0.5:
        raise AceError(f"strained strain: {strain} is a strain (0.05 is 5 %); it must stay below 0.5")

    def make() -> Atoms:
        tensor = rng.uniform(-limit, limit, (3, 3))
        return _shake(_strain(structure, (tensor + tensor.T) / 2), _positive("strained rattle", rattle), rng)

    return [_draw(make, minimum_distance, "strained") for _ in range(count)]


def volume_scan(
    rng: np.random.Generator,
    structure: Atoms,
    count: Count = 11,
    volume: Annotated[
        Sequence[float], setting(help="First and last volume, in units of that of the structure.", ge=0)
    ] = (0.8, 1.2),
    rattle: Rattle = 0.0,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """``count`` volumes, evenly from ``volume[0]`` to ``volume[1]`` times that of the structure."""
    _periodic("volume_scan", structure)
    low, high = _span("volume_scan volume", volume)
    if low <= 0:
        raise AceError(f"volume_scan volume: {volume!r} must be positive multiples of the structure's volume")

    def make(ratio: float) -> Atoms:
        cell = _strain(structure, (ratio ** (1 / 3) - 1) * np.eye(3))
        return _shake(cell, _positive("volume_scan rattle", rattle), rng)

    return [
        _draw(lambda r=ratio: make(r), minimum_distance, "volume_scan")  # type: ignore[misc]
        for ratio in np.linspace(low, high, count)
    ]


def vacancy(
    rng: np.random.Generator,
    structure: Atoms,
    count: Count = 5,
    vacancies: Annotated[int, setting(help="Number of atoms that are removed.", ge=0)] = 1,
    elements: Annotated[Sequence[str] | None, setting(help="Elements of these atoms; null: all.")] = None,
    rattle: Rattle = 0.05,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """``vacancies`` random atoms (of ``elements``, if stated) removed, then normal displacements of ``rattle`` A."""
    symbols = np.array(structure.get_chemical_symbols())
    sites = np.flatnonzero(np.isin(symbols, list(elements))) if elements else np.arange(len(structure))
    if not 0 < vacancies <= len(sites) or vacancies >= len(structure):
        raise AceError(f"vacancy: {vacancies} vacancies requested in {len(sites)} sites; use a larger supercell")

    def make() -> Atoms:
        atoms = structure.copy()
        del atoms[rng.choice(sites, size=vacancies, replace=False)]
        return _shake(atoms, _positive("vacancy rattle", rattle), rng)

    return [_draw(make, minimum_distance, "vacancy") for _ in range(count)]


def surface(
    rng: np.random.Generator,
    structure: Atoms,
    miller: Annotated[
        Sequence[int] | Sequence[Sequence[int]], setting(help="Miller index of the surface, or a list of them.")
    ] = ((1, 0, 0), (1, 1, 0), (1, 1, 1)),
    count: Count = 1,
    layers: Annotated[int, setting(help="Number of layers, in conventional cells.", ge=1)] = 4,
    vacuum: Annotated[float, setting(help="Empty space on each side.", unit="A", ge=0)] = 8.0,
    repeat: Annotated[Sequence[int], setting(help="Repetitions along the surface.", ge=1, items=2)] = (1, 1),
    rattle: Rattle = 0.0,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """Slabs cut from the conventional bulk cell, ``vacuum`` A on each side, ``count`` of each Miller index."""
    _periodic("surface", structure)
    if isinstance(miller[0], int):
        miller = [miller]  # type: ignore[list-item]
    slabs = []
    for indices in miller:
        if len(indices) != 3 or not any(indices):
            raise AceError(f"surface miller: {list(indices)!r} is not a Miller index; write [[1, 1, 1], [1, 0, 0]]")
        slab = ase_surface(structure, tuple(indices), layers, vacuum=_positive("surface vacuum", vacuum), periodic=True)
        slab = slab.repeat((*repeat, 1))
        for _ in range(count):
            slabs.append(_draw(lambda s=slab: _shake(s.copy(), rattle, rng), minimum_distance, "surface"))  # type: ignore[misc]
    return slabs


def substituted(
    rng: np.random.Generator,
    structure: Atoms,
    fractions: Annotated[Mapping[str, float], setting(help="Fraction of each element.", ge=0)],
    count: Count = 10,
    rattle: Rattle = 0.0,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """Alloys: the sites are filled at random with elements in the stated ``fractions`` (they are normalised)."""
    names = list(fractions)
    weights = np.array([_positive(f"substituted fractions {name}", fractions[name]) for name in names])
    if not weights.sum() > 0:
        raise AceError(f"substituted fractions: {dict(fractions)!r} must hold a positive number")
    exact = weights / weights.sum() * len(structure)
    amounts = np.floor(exact).astype(int)
    amounts[np.argsort(amounts - exact, kind="stable")[: len(structure) - amounts.sum()]] += 1
    symbols = np.repeat(names, amounts)

    def make() -> Atoms:
        atoms = structure.copy()
        atoms.set_chemical_symbols(rng.permutation(symbols).tolist())
        return _shake(atoms, _positive("substituted rattle", rattle), rng)

    return [_draw(make, minimum_distance, "substituted") for _ in range(count)]


def dimers(
    rng: np.random.Generator,
    pairs: Annotated[Sequence[str], setting(help="Pairs of elements, such as Cu-I.")],
    count: Count = 20,
    distance: Annotated[Sequence[float], setting(help="Shortest and longest distance.", unit="A", ge=0)] = (1.5, 6.0),
    box: Box = None,
) -> list[Atoms]:
    """Two atoms at ``count`` distances, even in ``distance`` (A), of each pair ("Cu-I"), free or in a ``box``."""
    low, high = _span("dimers distance", distance)
    if low <= 0:
        raise AceError(f"dimers distance: {distance!r} must be positive")
    found = []
    for pair in pairs:
        for value in np.linspace(low, high, count):
            found.append(_boxed(Atoms(parse_pair(pair), [[0, 0, 0], [value, 0, 0]]), box, "dimers"))
    return found


def clusters(
    rng: np.random.Generator,
    composition: Composition,
    count: Count = 10,
    radius: Annotated[
        float | None,
        setting(help="Radius of the ball that atoms are drawn in; null: room enough for all.", unit="A", gt=0),
    ] = None,
    minimum_distance: MinimumDistance = None,
    bond: Annotated[
        float, setting(help="Longest distance of bonded atoms, in units of the sum of covalent radii.", ge=0)
    ] = 1.6,
    box: Box = None,
) -> list[Atoms]:
    """Random free clusters, connected by distances below ``bond`` times the sum of the covalent radii.

    :param composition: atoms of each element, ``{"Li": 4}``
    :param radius: atoms are drawn in a ball of this radius (A); default: room enough for the composition
    """
    symbols = _symbols("clusters", composition)
    limits = minimum_distances(symbols, minimum_distance)
    reach = minimum_distances(symbols, None, fraction=_positive("clusters bond", bond))
    if radius is None:
        radius = max(reach.values()) * (0.5 + 0.45 * len(symbols) ** (1 / 3))
    found = []
    for _ in range(count):
        for _attempt in range(50 * ATTEMPTS):
            vectors = rng.normal(size=(len(symbols), 3))
            vectors *= (
                radius * rng.uniform(size=(len(symbols), 1)) ** (1 / 3) / np.linalg.norm(vectors, axis=1)[:, None]
            )
            atoms = Atoms(symbols, vectors)
            if not too_short(atoms, limits) and _connected(atoms, reach):
                break
        else:
            raise AceError(
                f"clusters: no connected {atoms.get_chemical_formula()} found; change radius, bond or minimum_distance"
            )
        found.append(_boxed(atoms, box, "clusters"))
    return found


def random_packed(
    rng: np.random.Generator,
    composition: Composition,
    count: Count = 10,
    volume_per_atom: Annotated[
        float | Sequence[float] | None,
        setting(help="Volume of an atom, or [smallest, largest]; null: that of a liquid.", unit="A^3", gt=0),
    ] = None,
    minimum_distance: MinimumDistance = None,
) -> list[Atoms]:
    """Periodic cubic boxes of randomly placed atoms, one after the other, none nearer than ``minimum_distance``.

    :param composition: atoms of each element in the box
    :param volume_per_atom: A^3, or [smallest, largest], drawn evenly; default: 1.3 (2 r_cov)^3 / sqrt(2), a liquid
    """
    symbols = _symbols("random_packed", composition)
    limits = minimum_distances(symbols, minimum_distance, fraction=0.8)
    if volume_per_atom is None:
        radii = [value for (a, b), value in minimum_distances(symbols, None, fraction=1.0).items() if a == b]
        volume_per_atom = 1.3 * float(np.mean(radii)) ** 3 / np.sqrt(2)
    low, high = _span("random_packed volume_per_atom", volume_per_atom, low=-1.0)
    low = high if low < 0 else low
    if low <= 0:
        raise AceError("random_packed volume_per_atom must be positive")
    found = []
    for _ in range(count):
        for _attempt in range(20):
            side = (rng.uniform(low, high) * len(symbols)) ** (1 / 3)
            atoms = _pack(rng, [str(name) for name in rng.permutation(symbols)], side, limits)
            if atoms is not None:
                break
        else:
            raise AceError(
                f"random_packed: {len(symbols)} atoms do not fit into {side**3:.1f} A^3 with the shortest distances "
                f"{ {'-'.join(k): round(v, 2) for k, v in limits.items()} } A: "
                "raise volume_per_atom or lower minimum_distance"
            )
        found.append(atoms)
    return found


def _pack(rng: np.random.Generator, symbols: list[str], side: float, limits: Mapping) -> Atoms | None:
    placed = np.zeros((0, 3))
    if any(limits[pair_key(name, name)] > side for name in symbols):
        return None
    for k, name in enumerate(symbols):
        reach = np.array([limits[pair_key(name, other)] for other in symbols[:k]])
        for _ in range(5 * ATTEMPTS):
            trial = rng.uniform(0, side, 3)
            delta = placed - trial
            delta -= side * np.round(delta / side)
            if k == 0 or (np.linalg.norm(delta, axis=1) >= reach).all():
                placed = np.vstack([placed, trial])
                break
        else:
            return None
    return Atoms(symbols, placed, cell=[side] * 3, pbc=True)


def _symbols(what: str, composition: Mapping[str, int]) -> list[str]:
    if not isinstance(composition, Mapping) or not composition:
        raise AceError(f"{what} composition: {composition!r} is not a mapping such as {{Cu: 8, I: 8}}")
    for name, amount in composition.items():
        parse_pair(str(name))
        if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
            raise AceError(f"{what} composition: {amount!r} atoms of {name}; give a whole number")
    most = MAX_CLUSTER if what == "clusters" else MAX_PACKED
    total = sum(composition.values())
    if total > most:
        raise AceError(f"{what} composition: {total} atoms are asked for; at most {most} can be drawn at random")
    return [name for name, amount in composition.items() for _ in range(amount)]


def _connected(atoms: Atoms, reach: Mapping) -> bool:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j, _, _ = short_pairs(atoms, reach)
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(atoms), len(atoms)))
    return connected_components(graph, directed=False)[0] == 1


def _boxed(atoms: Atoms, box: float | None, what: str) -> Atoms:
    if box is not None:
        extent = np.ptp(atoms.positions, axis=0).max()
        if _positive(f"{what} box", box) <= extent:
            raise AceError(f"{what} box: {box} A is smaller than the structure ({extent:.2f} A)")
        atoms.set_cell([box] * 3)
        atoms.pbc = True
        atoms.center()
    return atoms


#: kind of an entry -> generator
GENERATORS: dict[str, Callable[..., list[Atoms]]] = {
    "supercells": supercells,
    "rattled": rattled,
    "strained": strained,
    "volume_scan": volume_scan,
    "vacancy": vacancy,
    "surface": surface,
    "substituted": substituted,
    "dimers": dimers,
    "clusters": clusters,
    "random_packed": random_packed,
}
