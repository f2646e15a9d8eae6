"""Whether finished jobs are taken from AiiDA's cache: a campaign's own choice, which a daemon follows as well.

AiiDA's ``enable_caching`` reaches the running interpreter only, so the choice is an extra of the topmost process. The
cache is asked when a process is submitted, which its caller does: that is where the choice is looked up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from aiida.engine import Process, ProcessBuilder
from aiida.manage.caching import disable_caching, enable_caching, get_use_cache
from aiida.orm import ProcessNode

#: extra of the topmost process: true or false; without it AiiDA's settings decide
CACHING = "aceal_caching"


def choose_caching(node: ProcessNode, cache: bool) -> None:
    """Note the choice for a process and all that it calls."""
    node.base.extras.set(CACHING, cache)


def caching_of(node: ProcessNode) -> bool | None:
    """The choice in force for what a process calls, of the nearest caller that has one; ``None``: AiiDA's settings."""
    found: ProcessNode | None = node
    while found is not None:
        choice = found.base.extras.get(CACHING, None)
        if choice is not None:
            return bool(choice)
        found = found.caller
    return None


@contextlib.contextmanager
def cache_used(choice: bool) -> Iterator[None]:
    """The cache is used, or not, in this interpreter while the context lasts, however it ends.

    AiiDA's own contexts stay in force after an exception, and neither a daemon's worker nor a session of Python may
    keep the choice of one campaign.
    """
    failure: BaseException | None = None
    with enable_caching() if choice else disable_caching():
        try:
            yield
        except BaseException as error:
            failure = error
    if failure is not None:
        raise failure


@contextlib.contextmanager
def as_chosen(choice: bool | None, process_type: str) -> Iterator[None]:
    """The cache is used, or not, for processes of this type while the context lasts."""
    if choice is None or get_use_cache(identifier=process_type) == choice:
        yield
        return
    with cache_used(choice):
        yield


class FollowsCaching:
    """For WorkChains: what they submit is taken from the cache as the campaign has chosen.

    A mixin for those of other packages, too, as they submit their jobs themselves.
    """

    def submit(self, process: Any, inputs: dict[str, Any] | None = None, **kwargs: Any) -> ProcessNode:
        """As the base, with the campaign's choice."""
        with self.caching(process.process_class if isinstance(process, ProcessBuilder) else process):
            return super().submit(process, inputs, **kwargs)  # type: ignore[misc]

    def caching(self, process_class: type[Process]) -> contextlib.AbstractContextManager[None]:
        """Context in which the cache is used for processes of this class as the campaign has chosen."""
        return as_chosen(caching_of(self.node), process_class.build_process_type())  # type: ignore[attr-defined]
