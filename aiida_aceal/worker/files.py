"""Reader and writer of configurations under their former name; they stand in `aiida_aceal.common.configurations`."""

from aiida_aceal.common.configurations import (
    HASH_GRID,
    check_configuration,
    check_elements,
    configuration_hash,
    format_extxyz,
    get_labels,
    iter_configurations,
    read_configurations,
    write_configurations,
)

__all__ = [
    "HASH_GRID", "check_configuration", "check_elements", "configuration_hash", "format_extxyz", "get_labels",
    "iter_configurations", "read_configurations", "write_configurations",
]  # fmt: skip
