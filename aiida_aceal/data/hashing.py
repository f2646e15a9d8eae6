"""Hashes of data nodes, by which AiiDA's cache knows the inputs of a process: read where they are known."""

from __future__ import annotations

from typing import Any

from aiida.orm.nodes.caching import NodeCaching


class StoredHashCaching(NodeCaching):
    """For data with large files. What is stored does not change, so its hash is that of the day it was stored.

    AiiDA computes the hash of every input of every process anew, WorkChains included, which for a set of
    configurations means all of its files.
    """

    def compute_hash(self, ignore_errors: bool = True, **kwargs: Any) -> str | None:
        """The stored hash; computed if there is none, or if ``kwargs`` ask for one of another kind."""
        known = self.get_hash() if self._node.is_stored and not kwargs else None
        return known or super().compute_hash(ignore_errors=ignore_errors, **kwargs)

    def rehash(self) -> None:
        """Compute the hash anew, as `verdi node rehash` asks for."""
        self._node.base.extras.set(self._HASH_EXTRA_KEY, super().compute_hash())
