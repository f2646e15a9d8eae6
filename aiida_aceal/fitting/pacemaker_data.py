"""Turns extended XYZ into the data frames that pacemaker reads. Runs by itself, beside pacemaker.

The frame is a pickle, which fits only the versions of pandas, numpy and ASE that wrote it: so it is made on the
computer and in the environment where pacemaker will read it, and never read by us. Usage: ``python pacemaker_data.py``,
with ``train.extxyz``, perhaps ``test.extxyz``, and ``reference_energies.json`` (element -> eV) in the working folder.
After the fit ``python pacemaker_data.py errors`` turns pacemaker's predictions for the test set, another pickle, into
``test_errors.json``: its evaluator ``pyace`` writes no table of them.
"""

import json
import os
import sys


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


def write_errors(source, target):
    """Errors of pacemaker's predictions: energies in eV/atom, components of forces in eV/Angstrom."""
    import numpy
    import pandas

    frame = pandas.read_pickle(source, compression="gzip")
    energy = numpy.array(frame["energy_pred"] - frame["energy_corrected"], dtype=float) / frame["NUMBER_OF_ATOMS"]
    pairs = zip(frame["forces_pred"], frame["forces"])
    forces = numpy.concatenate([numpy.ravel(numpy.array(p) - numpy.array(f)) for p, f in pairs])
    result = {"n_structures": len(frame)}
    for name, values in (("energy", numpy.array(energy)), ("forces", forces)):
        result[name + "_rmse"] = float(numpy.sqrt(numpy.mean(values**2)))
        result[name + "_mae"] = float(numpy.mean(numpy.abs(values)))
    with open(target + ".part", "w") as handle:
        json.dump(result, handle)
    os.replace(target + ".part", target)


def main():
    """Write ``train.pckl.gzip`` and, if there is a test set, ``test.pckl.gzip``."""
    if sys.argv[1:] == ["errors"]:
        write_errors("test_pred.pckl.gzip", "test_errors.json")
        return
    with open("reference_energies.json") as handle:
        reference = json.load(handle)
    for name in ("train", "test"):
        if os.path.isfile(name + ".extxyz"):
            write_frame(name + ".extxyz", name + ".pckl.gzip", reference)


if __name__ == "__main__":
    main()
