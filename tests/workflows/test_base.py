"""Children are found again after a restart; those that never came to life are replaced."""

import pytest
from aiida import orm
from aiida.common.links import LinkType
from plumpy.process_states import ProcessState

from aiida_aceal.workflows.base import is_stillborn, output, why


@pytest.fixture
def node():
    """A stored job without state and checkpoint: what a worker leaves that dies while it makes it."""
    return orm.CalcJobNode().store()


def test_a_job_without_checkpoint_never_lived(node):
    assert is_stillborn(node)
    node.set_checkpoint("x")
    assert not is_stillborn(node)


def test_what_has_ended_has_lived(node):
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(0)
    assert not is_stillborn(node)


def test_an_exception_of_its_own_is_no_stillbirth(node):
    node.set_process_state(ProcessState.EXCEPTED)
    node.set_exception("ValueError: wrong")
    node.seal()
    assert not is_stillborn(node)
    assert "ValueError: wrong" in why(node)


def test_a_calcfunction_has_no_checkpoint_but_lives():
    assert not is_stillborn(orm.CalcFunctionNode().store())


def test_output_of_a_process_by_label():
    process = orm.CalcFunctionNode().store()
    data = orm.Int(1)
    data.base.links.add_incoming(process, link_type=LinkType.CREATE, link_label="result")
    data.store()
    assert output(process, "result").uuid == data.uuid
    assert output(process, "other") is None
    assert output(None, "result") is None
