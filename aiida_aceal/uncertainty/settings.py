"""Settings of active sets: of the job that builds one, and of a campaign."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from aiida_aceal.common.settings import Settings, memory_size, setting

from .maxvol import TOLERANCE


class ActiveSetSettings(Settings):
    """How an active set is built."""

    heading = "Active sets"

    kind: Literal["linear", "full"] = setting("linear", "Projections: of the linear or of the full (nonlinear) basis.")
    tolerance: float = setting(TOLERANCE, "Largest gamma of a training environment.", ge=1)
    memory: str | int | float = memory_size("2GiB", "Largest memory that the program may use.")
    exclude_outliers: bool = setting(False, "Leave out environments with a force error beyond Q3 + 1.5 IQR.")
    emptiness: bool = setting(
        True, "Record how empty the emptiest environments are, so that atoms that leave are flagged."
    )
    clusters: int | None = setting(
        None, "Local active sets: number of clusters of each element's environments.", ge=1, le=1000
    )
    group_key: str | None = setting(None, "Local active sets: one for each value of this info entry of the structures.")
    definition: Literal["minimum", "own"] = setting(
        "minimum", "Local grade: the smallest over the clusters, or that of the environment's own cluster."
    )
    switch: float | None = setting(
        None,
        "Use the local grade only in clusters with less than this fraction of an equal share of the environments.",
        gt=0,
    )

    @model_validator(mode="after")
    def _local(self) -> ActiveSetSettings:
        if self.clusters is None and self.group_key is None:
            alone = [key for key in ("definition", "switch") if key in self.model_fields_set and getattr(self, key)]
            if alone:
                raise ValueError(f"{alone[0]} requires clusters or group_key")
            return self
        if self.clusters is not None and self.group_key is not None:
            raise ValueError("give clusters or group_key, not both")
        if self.exclude_outliers:
            raise ValueError("local active sets are built from all environments; leave exclude_outliers out")
        return self
