"""``aceal.restart.fit``: a fit until it ends by itself; each job goes on from the potential of the one before that ran
out of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessHandlerReport, calcfunction, process_handler

from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.restart import OUT_OF_TIME, RestartWorkChain


@calcfunction
def rest_of_fit(settings: orm.Dict, report: orm.Dict) -> orm.Dict:
    """Settings of what is left of a nonlinear fit."""
    return orm.Dict(rest_of(settings.get_dict(), report.get_dict()))


def rest_of(settings: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a fit that goes on from the result of one that made the evaluations of ``report``."""
    own = dict(settings.get("nonlinear") or {})
    most = report["settings"]["nonlinear"]["evaluations"]
    own |= {"evaluations": max(1, most - report["rounds"][-1]["evaluations"]), "start": "auto"}
    own.pop("ladder", None)  # all functions are there
    return {**settings, "nonlinear": own}


class FitRestartWorkChain(RestartWorkChain):
    """Run a fit, and go on from its coefficients if time was too short.

    The prior of the next job is centred at the coefficients it starts from and its preconditioner is made anew, so the
    result is not that of a single job to the last digit; it is never worse than its start on the training set.
    """

    @process_handler(priority=605)
    def handle_unfinished_fit(self, node: orm.ProcessNode) -> ProcessHandlerReport | None:
        """Wall time (exit codes 120, 306) of a nonlinear fit that gave what it had: the next job goes on from that
        potential with the evaluations that are left, and more time up to `wallclock_bound`. As long as evaluations are
        made, such jobs do not count as iterations. Without a potential see `handle_out_of_walltime`.
        """
        report, potential = output(node, "report"), output(node, "potential")
        if node.exit_status not in OUT_OF_TIME or report is None or potential is None:
            return None
        done = report["rounds"][-1]["evaluations"]
        seconds = self.more_time()
        if done <= 1 and seconds is None:
            return None  # not a step, and no more time
        label = f"rest_{self.ctx.iteration:02d}"
        rest = self.call_once(label, rest_of_fit, settings=node.inputs.settings, report=report)
        self.ctx.earlier = {"potential": potential.uuid, "settings": rest.uuid}
        self.ctx.productive += done > 1
        more = f" with {seconds} s" if seconds else ""
        self.report(f"{node.process_label}<{node.pk}> made {done} evaluations: the next job goes on{more}")
        return ProcessHandlerReport(True)
