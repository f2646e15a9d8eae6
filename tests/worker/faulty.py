"""Calculators that misbehave on the configurations whose first atom is at x > 0.5 (EMT otherwise)."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np
from ase.calculators.emt import EMT


class Faulty(EMT):
    """``fault``: what goes wrong."""

    def __init__(self, fault: str, **kwargs):
        super().__init__(**kwargs)
        self.fault = fault

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        """EMT, unless the configuration is marked."""
        super().calculate(atoms, properties, system_changes)
        if atoms.positions[0, 0] < 0.5:
            return
        if self.fault == "hang":
            time.sleep(600)
        elif self.fault == "slow":
            time.sleep(3)
        elif self.fault == "program":
            subprocess.run(["sleep", "599"], check=True)
        elif self.fault == "crash":
            print("the last words", flush=True)
            os.abort()
        elif self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "nan":
            self.results["forces"] = np.full((len(atoms), 3), np.nan)
        elif self.fault == "unconverged":
            self.converged = False
        elif self.fault == "files":
            assert not os.listdir("."), "the folder of another configuration"
            with open("scratch", "w") as handle:
                handle.write("x")
            raise RuntimeError("SCF not converged\n  in 250 cycles")


def no_start():
    """Ends the process that imports it, but only in a child."""
    import multiprocessing

    if multiprocessing.parent_process() is not None:
        print("licence not found", flush=True)
        os._exit(7)
    return EMT()


class WrongInLargeCells(EMT):
    """EMT, but energies of cells longer than 7.5 A are wrong by 1000 eV."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        """As the base, and wrong."""
        super().calculate(atoms, properties, system_changes)
        if atoms.cell.lengths().max() > 7.5:
            self.results["energy"] += 1000.0
            self.results["free_energy"] = self.results["energy"]


class EnergyOnly(EMT):
    """A calculator without stress, and with threads counted as energy."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        """EMT plus the number of threads this process may use."""
        super().calculate(atoms, properties, system_changes)
        self.results.pop("stress", None)
        self.results.pop("free_energy", None)
        self.results["energy"] = float(os.environ["OMP_NUM_THREADS"])
