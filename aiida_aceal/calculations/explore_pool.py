"""``aceal.explore.pool``: candidates from a given data base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.job import AceJobCalculation, given_settings
from aiida_aceal.common.settings import setting
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.exploration.pool import PoolSettings
from aiida_aceal.jobs.declaration import Input
from aiida_aceal.jobs.explore import POOL

#: key of ``settings`` that names the files of a remote pool
FILES_KEY = "pool_files"


class PoolJobSettings(PoolSettings):
    """What is taken from a pool, and which files of a remote folder make it up."""

    heading = "Pool: `settings` of `aceal.explore.pool`"

    pool_files: tuple[str, ...] | None = setting(
        None, "Files of the remote folder that make up the pool.", items=(1, None)
    )


class AceExplorePoolCalculation(AceJobCalculation):
    """Grade a pool chunk by chunk and keep what lies in the window.

    The pool is a ``ConfigurationsData``, a file (extended XYZ or ASE data base), or a folder on the computer of the
    code that stays where it is (``settings.pool_files`` names the files in it).
    """

    JOB = replace(POOL, node_settings=PoolJobSettings)
    _PARSER = "aceal.explore"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """A pool may be other things than a node of ours."""
        super().define(spec)
        spec.input(
            "configurations",
            valid_type=(ConfigurationsData, orm.SinglefileData, orm.RemoteData),
            help="The pool: a node, a file, or a remote folder.",
        )

    @classmethod
    def check_job(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also ask for the files of a remote pool."""
        message = super().check_job(inputs)
        if message:
            return message
        names = given_settings(inputs).get(FILES_KEY)
        pool = inputs.get("configurations")
        if isinstance(pool, orm.RemoteData):
            if names is None:
                return f"settings: `{FILES_KEY}` must list the files of the remote folder that make up the pool"
            if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names):
                return f"settings: `{FILES_KEY}` must be paths inside the remote folder"
        elif names is not None:
            return f"settings: `{FILES_KEY}` is for remote folders only"
        return None

    def files_of(self, folder: Folder, part: Input) -> list[str]:
        """The pool, or where it is."""
        pool = self.inputs.configurations
        if part.name != "configurations" or isinstance(pool, ConfigurationsData):
            return super().files_of(folder, part)
        return [
            pool_name(name) for name in ([pool.filename] if isinstance(pool, orm.SinglefileData) else self.remote())
        ]

    def remote(self) -> list[str]:
        """Files of a remote pool."""
        return self.settings()[FILES_KEY]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Copy the file or link the remote ones."""
        calcinfo = super().prepare_for_submission(folder)
        pool = self.inputs.configurations
        if isinstance(pool, orm.SinglefileData):
            calcinfo.local_copy_list.append((pool.uuid, pool.filename, pool_name(pool.filename)))
        elif isinstance(pool, orm.RemoteData):
            calcinfo.remote_symlink_list = [
                (pool.computer.uuid, f"{pool.get_remote_path()}/{name}", pool_name(name)) for name in self.remote()
            ]
        return calcinfo


def pool_name(name: str) -> str:
    """Name of a pool file in the working directory, apart from our own files."""
    return "pool_" + name.replace("/", "_")
