"""Waiting for any of several children; how well slots are used."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from any_chain import AnyChain

from aiida_aceal.workflows.labellers.base import next_starts


@pytest.mark.timeout(120)
def test_the_next_job_starts_when_any_has_ended(localhost, tmp_path):
    """The first of five jobs, two at a time, waits for the last one: only if others pass it, all end."""
    code = orm.InstalledCode(
        label="bash", computer=localhost, filepath_executable="/bin/bash", default_calc_job_plugin="core.arithmetic.add"
    ).store()
    node = run_get_node(AnyChain, code=code, flag=orm.Str(str(tmp_path / "flag")), count=orm.Int(5)).node
    assert node.is_finished_ok, node.exit_message
    assert [job.outputs.sum.value for job in sorted(node.called, key=lambda job: job.pk)] == [1, 2, 3, 4, 5]


def idle_share(seconds, limit, barrier=False):
    """Share of the slots' time in which they are empty, until the last label is made.

    With ``barrier`` nothing starts before the oldest of those under way has ended, as it was once.
    """
    queue, running, now, busy = list(range(len(seconds))), [], 0.0, float(np.sum(seconds))
    while queue or running:
        start, queue = next_starts(queue, len(running), limit)
        for index in start:
            heapq.heappush(running, (now + seconds[index], index))
        until = max(now, dict((i, t) for t, i in running)[min(i for _, i in running)]) if barrier else running[0][0]
        now = until
        while running and running[0][0] <= now:
            heapq.heappop(running)
    return 1.0 - busy / (limit * now)


@pytest.mark.parametrize("seed", range(5))
def test_slots_are_hardly_ever_empty(seed):
    """1000 labels, 50 at a time, times log-normal, 95 % of them within a factor of ten; half of their variance is that
    of the sizes, which are known.
    """
    rng, spread = np.random.default_rng(seed), np.log(10.0) / 3.92
    sizes, chance = rng.normal(0.0, spread / np.sqrt(2.0), (2, 1000))
    seconds = np.exp(sizes + chance)
    assert idle_share(seconds[np.argsort(-sizes)], 50) < 0.1
    assert idle_share(seconds, 50, barrier=True) > 0.3
