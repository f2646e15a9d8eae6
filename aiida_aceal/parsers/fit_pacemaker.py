"""Parser of ``aceal.fit.pacemaker``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from aiida_aceal.ace import AcePotential
from aiida_aceal.calculations.fit_pacemaker import ERRORS_LOG, REFERENCE_FILE, SCRIPT_LOG
from aiida_aceal.calculations.worker_base import ERROR_FILE
from aiida_aceal.common.errors import AceError
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.fitting import pacemaker
from aiida_aceal.parsers.worker_base import AceWorkerParser, clean, end_of, last_error_line

#: what the last line of a traceback starts with when the input, not the program, is at fault
_INPUT_ERRORS = ("ValueError", "AssertionError", "KeyError", "FileNotFoundError", "RuntimeError: Couldn't", "TypeError")


class AceFitPacemakerParser(AceWorkerParser):
    """Reads the potential, the log and the metrics; of a run that was cut, the last potential it saved."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Parse ``retrieved`` and the temporary folder."""
        self.temporary = Path(kwargs["retrieved_temporary_folder"]) if "retrieved_temporary_folder" in kwargs else None
        log = pacemaker.read_log(self.text(pacemaker.LOG_FILE))
        failure = self.find_failure()
        try:
            rows = pacemaker.read_metrics(self.text(pacemaker.METRICS_FILE))
            validation = pacemaker.summary(pacemaker.read_metrics(self.text(pacemaker.TEST_METRICS_FILE)))
        except AceError as error:
            return failure or self.exit("ERROR_OUTPUT_TRUNCATED", f"metrics: {error}")
        validation = validation or pacemaker.read_test_errors(self.text(pacemaker.TEST_ERRORS_FILE))
        if "validation" in self.node.inputs and not validation:
            why = last_error_line(self.text(ERRORS_LOG)) or "it left no predictions"
            log["warnings"].append(f"no errors of the test set from pacemaker ({why}): run aceal.evaluate for them")
        reference = self.reference()
        report = {
            **log,
            "reference_energies": reference,
            "units": {"energy": "eV/atom", "forces": "eV/A"},
            "train": pacemaker.summary(rows),
            "validation": validation,
        }
        self.out("report", orm.Dict(clean(report)))
        diverged = pacemaker.divergence(rows)
        problem = self.attach_potential(reference, diverged is None)
        if failure is not None:
            return failure
        if diverged is not None:
            return self.exit("ERROR_DIVERGED", diverged)
        if problem is not None:
            return problem
        settings = self.node.inputs.settings.get_dict() if "settings" in self.node.inputs else {}
        if log["early_stop"] and not settings.get("accept_early_stop", False):
            return self.exit("ERROR_EARLY_STOP", log["early_stop"])
        if not log["finished"]:
            return self.exit("ERROR_PACEMAKER_FAILED", "the log does not say that the final potential was saved")
        return None

    def find_failure(self) -> ExitCode | None:
        """Exit code for what the script, pacemaker or the scheduler said."""
        script = self.text(SCRIPT_LOG)
        if (script and "train.pckl.gzip: " not in script) or "Error" in script:
            return self.exit("ERROR_DATA_FRAME", last_error_line(script))
        errors = self.text(ERROR_FILE)
        scheduler = self.text(self.node.get_option("scheduler_stderr"))
        last = last_error_line(errors)
        both = f"{errors}\n{scheduler}"
        if self.node.exit_status == 120 or "DUE TO TIME LIMIT" in both or "exceeded limit" in both:
            return self.exit("ERROR_OUT_OF_WALLTIME", "the last potential that was saved is kept, go on from it")
        if self.node.exit_status == 110 or any(w in both for w in ("MemoryError", "oom-kill", "Out of memory", "OOM")):
            return self.exit("ERROR_OUT_OF_MEMORY", f"{last}; lower `backend.batch_size`")
        if "Traceback (most recent call last)" in errors:
            bad = any(last.startswith(word) for word in _INPUT_ERRORS)
            return self.exit("ERROR_BAD_INPUT" if bad else "ERROR_PACEMAKER_FAILED", last)
        ended = end_of(self.node, both)
        if ended:
            return self.exit("ERROR_JOB_ENDED", ended)
        for word in ("Segmentation fault", "Aborted", "command not found", "No such file or directory"):
            if word in both:
                return self.exit("ERROR_PACEMAKER_FAILED", next(x for x in both.splitlines() if word in x).strip())
        return None

    def reference(self) -> dict[str, float]:
        """Energies of the free atoms that were taken off the labels."""
        return json.loads(self.node.base.repository.get_object_content(REFERENCE_FILE))

    def attach_potential(self, reference: dict[str, float], keep_interim: bool) -> ExitCode | None:
        """The final potential, or the last one that was saved on the way."""
        path = self.path(pacemaker.OUTPUT_FILE)
        missing = path is None
        if missing and keep_interim and self.temporary is not None:
            found = sorted(self.temporary.glob("interim_potential_*.yaml"), key=lambda p: (p.stat().st_mtime, p.name))
            path = found[-1] if found else None
        if path is None:
            return self.exit("ERROR_OUTPUT_MISSING", pacemaker.OUTPUT_FILE)
        try:
            potential = AcePotential.read(path).with_reference_energies(reference)
            self.out("potential", AcePotentialData(potential=potential))  # refuses what is not finite
        except AceError as error:
            return self.unreadable(error, path, path.name)
        return self.exit("ERROR_OUTPUT_MISSING", pacemaker.OUTPUT_FILE) if missing else None
