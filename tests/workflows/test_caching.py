"""A campaign's own choice of caching, which reaches what its children submit."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.manage.caching import enable_caching, get_use_cache
from aiida.plugins import CalculationFactory

from aiida_aceal.cli.embedded import run_watched
from aiida_aceal.workflows.caching import as_chosen, cache_used, choose_caching
from aiida_aceal.workflows.restart import under_restart

TYPE = "aiida.calculations:aceal.evaluate"


def test_a_choice_ends_with_its_context_also_after_an_exception():
    assert not get_use_cache(identifier=TYPE)
    seen = []

    def fail():
        with as_chosen(True, TYPE):
            seen.append(get_use_cache(identifier=TYPE))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert seen == [True]
    assert not get_use_cache(identifier=TYPE)
    with enable_caching():
        with as_chosen(True, TYPE), as_chosen(None, TYPE):
            assert get_use_cache(identifier=TYPE)
        assert get_use_cache(identifier=TYPE), "a context around it is left alone"


@pytest.mark.parametrize("choice", [True, False])
def test_a_command_that_ends_badly_leaves_no_choice_behind(choice):
    for error in (RuntimeError, KeyboardInterrupt, SystemExit):
        seen = []

        def end(error=error, seen=seen):
            with cache_used(choice):
                seen.append(get_use_cache(identifier=TYPE))
                raise error

        with pytest.raises(error):
            end()
        assert seen == [choice]
        assert not get_use_cache(identifier=TYPE)
        with enable_caching(identifier=TYPE):
            assert get_use_cache(identifier=TYPE), "AiiDA's own settings count again"


@pytest.mark.long
def test_the_choice_of_the_topmost_process_counts(aceal_worker_code, cu_configurations, cu_potential, job_metadata):
    potential, configurations = cu_potential(), cu_configurations(2)
    inputs = {"code": aceal_worker_code, "configurations": configurations, "potential": potential}
    cls, wrapped = under_restart(CalculationFactory("aceal.evaluate"), {**inputs, "metadata": job_metadata()})
    builder = cls.get_builder()
    builder._update(wrapped)

    def run(cache: bool | None) -> list[bool]:
        def note(node: orm.ProcessNode) -> None:
            if cache is not None:
                choose_caching(node, cache)

        node = run_watched(builder, lambda node: None, started=note)
        assert node.is_finished_ok, node.exit_message
        return [job.base.caching.is_created_from_cache for job in node.called]

    assert [run(None), run(True), run(False), run(None)] == [[False], [True], [False], [False]]
