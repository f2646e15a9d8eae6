"""Turns extended XYZ into the data frames that pacemaker reads. Runs by itself, beside pacemaker.

The frame is a pickle, which fits only the versions of pandas, numpy and ASE that wrote it: so it is made on the
computer and in the environment where pacemaker will read it, and never read by us. Usage: ``python pacemaker_data.py``,
with ``train.extxyz``, perhaps ``test.extxyz``, and ``reference_energies.json`` (element -> eV) in the working folder.
"""

import json
import os


def write_frame(source, target, reference):
    """One row for each structure: energy and energy above the free atoms (eV), forces (eV/Angstrom), the structure."""
    import ase.io
    import pandas

    rows = []
    for index, atoms in enumerate(ase.io.read(source, index=":", format="extxyz")):
        energy = float(atoms.get_potential_energy())
        forces = atoms.get_forces(apply_constraint=False)
        free = sum(reference.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols())
        name = f"{source}:{index}"
        bare = atoms.copy()
        bare.calc = None
        bare.info = {}
        bare.set_constraint()
        for key in list(bare.arrays):
            if key not in ("numbers", "positions"):
                del bare.arrays[key]
        rows.append((name, bare, energy, energy - free, forces, len(bare)))
    columns = ["name", "ase_atoms", "energy", "energy_corrected", "forces", "NUMBER_OF_ATOMS"]
    frame = pandas.DataFrame(rows, columns=columns)
    frame.to_pickle(target, compression="gzip", protocol=4)
    print(f"{target}: {len(frame)} structures")


def main():
    """Write ``train.pckl.gzip`` and, if there is a test set, ``test.pckl.gzip``."""
    with open("reference_energies.json") as handle:
        reference = json.load(handle)
    for name in ("train", "test"):
        if os.path.isfile(name + ".extxyz"):
            write_frame(name + ".extxyz", name + ".pckl.gzip", reference)


if __name__ == "__main__":
    main()
