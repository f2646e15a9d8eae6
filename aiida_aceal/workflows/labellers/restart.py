"""``aceal.restart.label``: a job of labels until all are made; each job takes the labels of those before."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessHandlerReport, process_handler
from aiida.manage.caching import get_use_cache

from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.restart import RestartWorkChain

#: exit status of `aceal.label.ase` when something was left out for a reason that may pass
INCOMPLETE = 311
#: words in the reasons of labels whose process was ended for want of memory
_MEMORY = ("SIGKILL", "out of memory", "annot allocate memory")


class LabelRestartWorkChain(RestartWorkChain):
    """Run a job of labels, and again with only what is missing.

    With caching, a job of an earlier campaign that was not finished is gone on from, too.
    """

    def setup(self) -> None:
        """As the base; what an earlier campaign has left is taken up."""
        super().setup()
        self.ctx.n_made = -1
        self.ctx.best = None
        with self.caching(self.process_class):
            found = earlier_progress(self.inputs.calculation.value, self.inputs.job)
        if found is not None and "progress" not in self.inputs.job and "parent_folder" not in self.inputs.job:
            self.ctx.earlier = {"progress": found.uuid}
            self.report(f"going on from the labels of {found.creator.process_label}<{found.creator.pk}>")

    def continue_from(self, node: orm.ProcessNode) -> None:
        """Labels come from the file of progress, or from the work folder if nothing was retrieved."""
        progress, folder = output(node, "progress"), output(node, "remote_folder")
        if progress is not None:
            self.ctx.earlier = {"progress": progress.uuid}
        elif folder is not None and output(node, "report") is None:
            self.ctx.earlier = {"parent_folder": folder.uuid}

    @process_handler(priority=610)
    def handle_incomplete_labels(self, node: orm.ProcessNode) -> ProcessHandlerReport | None:
        """Labels left out for a reason that may pass (exit code 311): the next job computes what is missing. It gets
        more time if time was too short, half as many processes if one was killed for want of memory. As long as labels
        are made, such jobs do not count as iterations. What was begun in vain in three jobs is a failure.
        """
        if node.exit_status != INCOMPLETE:
            return None
        report = output(node, "report")
        facts = report.get_dict() if report is not None else {}
        labelled = output(node, "labelled")
        n_made = (0 if labelled is None else len(labelled)) + facts.get("n_failed", 0) - facts.get("n_transient", 0)
        gained, self.ctx.n_made = n_made > self.ctx.n_made, max(n_made, self.ctx.n_made)
        reasons = [str(item.get("reason")) for item in [*facts.get("not_tried", []), *facts.get("failures", [])]]
        words = "what is missing is computed by another job"
        if any(reason.startswith("out of time") for reason in reasons):
            seconds = self.more_time()
            words += f" with {seconds} s" if seconds else ""
        if any(word in reason for reason in reasons for word in _MEMORY):
            change = self.more_memory()
            words += f" with {change}" if change else ""
        if gained:
            self.ctx.productive += 1
        return self.again(node, words)

    def give_up(self, node: orm.ProcessNode) -> ExitCode | None:
        """A job that tried everything has ended well: what it could not label are failures."""
        report = output(node, "report")
        tried = node.exit_status == INCOMPLETE and report is not None and not report.get_dict().get("n_not_tried")
        if tried and output(node, "labelled") is not None:
            self.report(f"{why(node)}: these are failures now")
            self.ctx.is_finished = True
            return None
        return super().give_up(node)

    def attach(self, node: orm.ProcessNode) -> None:
        """Outputs of the job with the most labels: one that was lost has none, those before it may."""
        made = [child for child in self.ctx.children if output(child, "labelled") is not None]
        best = max(made, key=lambda child: (len(output(child, "labelled")), child.pk), default=node)
        super().attach(best)


def earlier_progress(calculation: str, job: Any) -> orm.Data | None:
    """File of progress of the last job of the same inputs, if it was not finished; with caching only."""
    process_type = f"aiida.calculations:{calculation}"
    if not get_use_cache(identifier=process_type) or not job.configurations.is_stored:
        return None
    query = orm.QueryBuilder()
    digest = job.configurations.base.caching.get_hash()
    query.append(type(job.configurations), filters={"extras._aiida_hash": digest}, tag="set")
    query.append(
        orm.CalcJobNode, with_incoming="set", edge_filters={"label": "configurations"},
        filters={"process_type": process_type}, tag="job", project="*",
    )  # fmt: skip
    query.order_by({"job": {"id": "desc"}})
    settings = job.settings.get_dict()
    for (node,) in query.all():
        if not node.is_terminated or "settings" not in node.inputs or node.inputs.settings.get_dict() != settings:
            continue
        progress = output(node, "progress")
        if progress is not None:
            return progress
        if node.is_finished_ok:
            # the cache finds it, by what it went on from
            return node.inputs.progress if "progress" in node.inputs else None
    return None
