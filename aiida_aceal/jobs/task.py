"""One run of a job: its settings, its files, what it says while it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.ace import AceModel, AcePotential
    from aiida_aceal.uncertainty import ActiveSet

    from .declaration import Job

#: configurations are evaluated together up to this many atoms, which bounds the memory
CHUNK_ATOMS = 20_000


class Task:
    """What the function of a job works with.

    :param settings: instance of the job's settings model
    :param files: path (or paths, for inputs with ``many``) of each input and output that was named
    :param label_keys: arguments ``energy_key``, ``forces_key``, ``stress_key`` of the reader of configurations
    :param time_limit: seconds after which the command will be ended, whatever it has done
    """

    def __init__(
        self,
        job: Job,
        settings: Settings,
        files: Mapping[str, Path | Sequence[Path]],
        seed: int = 0,
        label_keys: Mapping[str, str] | None = None,
        time_limit: float | None = None,
    ) -> None:
        self.job, self.settings, self.seed = job, settings, seed
        self.label_keys = dict(label_keys or {})
        self.started, self.time_limit = time.perf_counter(), time_limit
        self._files = {
            name: [Path(p) for p in path] if isinstance(path, (list, tuple)) else [Path(path)]
            for name, path in files.items()
            if path is not None and path != ()
        }

    # --- words ---------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self.started

    def deadline(self, share: float) -> float | None:
        """The moment of `time.perf_counter` at which this share of the time limit is over; None without a limit."""
        return None if self.time_limit is None else self.started + share * self.time_limit

    def say(self, text: str) -> None:
        """Progress: one line on stderr."""
        print(text, file=sys.stderr, flush=True)

    def say_time(self, text: str) -> None:
        """Progress: the seconds so far, and one line, on stderr."""
        self.say(f"{self.seconds:7.1f} s  {text}")

    def echo(self, text: str) -> None:
        """The result in words: one line on stdout."""
        print(text, flush=True)

    # --- files in --------------------------------------------------------------------------------------------------

    def given(self, name: str) -> bool:
        """Whether an input or output was named."""
        return name in self._files

    def paths(self, name: str) -> list[Path]:
        """Files of an input, empty if none was given."""
        return self._files.get(name, [])

    def path(self, name: str) -> Path | None:
        """The file of an input or output, None if none was given."""
        return self._files[name][0] if name in self._files else None

    @cached_property
    def potential(self) -> AcePotential:
        """The input ``potential``. Raises `AceError` if it cannot be read."""
        from aiida_aceal.ace import AcePotential

        return AcePotential.read(self._files["potential"][0])

    def basis(self, seed: int = 0) -> AcePotential:
        """The input ``potential``, or what its description in a settings file (elements, cutoff, ...) makes.

        :raises AceError: it cannot be read or built
        """
        from aiida_aceal.ace import build_potential

        return self.potential if self.given("potential") else build_potential(self.settings.potential, seed=seed)

    @cached_property
    def active_set(self) -> ActiveSet | None:
        """The input ``active_set``, checked against the potential; None if none was given."""
        from aiida_aceal.uncertainty import ActiveSet

        path = self.path("active_set")
        return None if path is None else ActiveSet.load(path, potential=self.potential)

    @cached_property
    def model(self) -> AceModel:
        """Evaluator of the potential, with the active set if one was given."""
        from aiida_aceal.ace import AceModel

        model = AceModel(self.potential)
        model.active_set = self.active_set
        return model

    def configurations(self, name: str = "configurations") -> Iterator[Atoms]:
        """Configurations of an input, file by file.

        :raises AceError: a file that cannot be read, or an element that the potential of the job does not know.
        """
        for _, _, atoms in self.located(name):
            yield atoms

    def located(self, name: str = "configurations") -> Iterator[tuple[Path, int, Atoms]]:
        """As `configurations`, each with its file and its number in it."""
        from aiida_aceal.common.configurations import iter_configurations, unknown_elements

        free = self.job.input(name).any_element
        known = self.potential.elements if self.given("potential") and not free else None
        for path in self.paths(name):
            for index, atoms in enumerate(iter_configurations(path, **self.label_keys, say=self.say)):
                message = None if known is None else unknown_elements(atoms.symbols, known)
                if message:
                    raise AceError(f"{path}, structure {index}: {message}")
                yield path, index, atoms

    def chunks(self, name: str = "configurations", limit: int = CHUNK_ATOMS) -> Iterator[list[Atoms]]:
        """Lists of consecutive configurations with at most ``limit`` atoms together (a larger one comes alone)."""
        return chunks(self.configurations(name), limit)

    # --- files out -------------------------------------------------------------------------------------------------

    def write(self, name: str, frames: Iterable[Atoms]) -> int:
        """Write an output of configurations; without a file for it they are gone through all the same.

        :returns: their number
        """
        from aiida_aceal.common.configurations import write_configurations

        path = self.path(name)
        return sum(1 for _ in frames) if path is None else write_configurations(path, frames)

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Write an output of numbers; without a file for it nothing happens."""
        from aiida_aceal.common.atomic import write_json

        path = self.path(name)
        if path is not None:
            write_json(path, data)


def chunks(frames: Iterable[Any], limit: int = CHUNK_ATOMS) -> Iterator[list[Any]]:
    """Lists of consecutive configurations with at most ``limit`` atoms together (a larger one comes alone)."""
    chunk: list[Any] = []
    n_atoms = 0
    for frame in frames:
        if chunk and n_atoms + len(frame) > limit:
            yield chunk
            chunk, n_atoms = [], 0
        chunk.append(frame)
        n_atoms += len(frame)
    if chunk:
        yield chunk
