"""A hundred thousand atoms: in a process of its own, whose memory is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CODE = """
import json, resource
from ase.build import bulk
from random_cases import COPPER, random_coefficients
from aiida_aceal.ace import AceModel, build_potential
model = AceModel(random_coefficients(build_potential(COPPER), 1))
cell = bulk("Cu", cubic=True, a=3.6)
small, large = model.evaluate(cell), model.evaluate(cell * (30, 30, 28), projections=False)
print(json.dumps([len(large.energies), large.energy / small.energy, abs(large.forces).max(),
    float(abs(large.stress - small.stress).max()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def test_a_hundred_thousand_atoms():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, cwd=Path(__file__).parent, check=True
    )
    n, ratio, force, stress, gib = json.loads(done.stdout)
    assert n == 100_800
    assert abs(ratio / (n / 4) - 1.0) < 1e-10
    assert force < 1e-8
    assert stress < 1e-10
    assert gib < 2.0
