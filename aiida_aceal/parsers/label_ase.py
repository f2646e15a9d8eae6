"""Parser of ``aceal.label.ase``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.calculations.worker_base import REPORT_FILE
from aiida_aceal.common.words import counted
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.jobs.label import PROGRESS_FILE
from aiida_aceal.labels.progress import label_key, read_progress
from aiida_aceal.parsers.job import AceJobParser


class AceLabelAseParser(AceJobParser):
    """A batch without a single label is a failure, one that left something out is told apart from a complete one."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """As the base. A job that was ended from outside has no report: its labels are in the file of progress."""
        failure = super().parse(**kwargs)
        if "report" not in self.outputs:
            n_labelled = self.salvage()
            if n_labelled and self.is_ended(failure):
                words = f"{n_labelled} of {len(self.node.inputs.configurations)} configurations labelled"
                return self.exit("ERROR_LABELS_INCOMPLETE", f"{words} when the job ended ({failure.message})")
        return failure

    def is_ended(self, failure: ExitCode | None) -> bool:
        """Whether the job did not come to its end, for a reason that is neither time nor memory."""
        codes = self.exit_codes
        ends = (codes.ERROR_RUN_FAILED, codes.ERROR_OUTPUT_MISSING, codes.ERROR_JOB_ENDED)
        return failure is not None and failure.status in [code.status for code in ends]

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the labelled configurations."""
        if not report:
            return None
        n_labelled, failures = report.get("n_labelled"), report.get("failures") or []
        not_tried, passing = report.get("not_tried") or [], [item for item in failures if item.get("transient")]
        incomplete = None
        if not_tried or passing:
            self.keep_progress()
            words = [
                f"{counted(len(rows), 'configuration')} {what}, the first: {rows[0].get('reason')}"
                for rows, what in ((not_tried, "not tried"), (passing, "failed for a reason that may pass"))
                if rows
            ]
            incomplete = self.exit("ERROR_LABELS_INCOMPLETE", "; ".join(words))
        if not n_labelled and incomplete is None and failures:
            reason = failures[0].get("reason")
            return self.exit("ERROR_NOTHING_LABELLED", f"{len(failures)} failed, the first with: {reason}")
        return (super().parse_files(report) if n_labelled else None) or incomplete

    def find_failure(self) -> ExitCode | None:
        """As the base; a job that was asked to end and did so in good order says itself what is missing."""
        failure = super().find_failure()
        return None if self.is_ended(failure) and self.text(REPORT_FILE) else failure

    def keep_progress(self) -> None:
        """Attach the file of progress."""
        path = self.path(PROGRESS_FILE)
        if path is not None and path.stat().st_size:
            self.out("progress", orm.SinglefileData(path, filename=PROGRESS_FILE))

    def salvage(self) -> int:
        """Attach what the file of progress holds of the configurations; returns the number of labels."""
        path = self.path(PROGRESS_FILE)
        if path is None or not path.stat().st_size:
            return 0
        self.keep_progress()
        with path.open("rb") as handle:
            made = read_progress(handle).outcomes
        frames: list[Atoms] = []
        for atoms in self.node.inputs.configurations.iter_atoms():
            outcome = made.get(label_key(atoms))
            if outcome is not None and outcome.labels is not None:
                atoms.calc = SinglePointCalculator(atoms, **outcome.labels)
                frames.append(atoms)
        if frames:
            source = self.job.source_of(self.node.inputs.settings.get_dict())
            self.out("labelled", ConfigurationsData.from_atoms(frames, source=source))
        return len(frames)
