"""From the nodes of a campaign to its report and to the files a user takes home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.atomic import open_whole, write_bytes, write_text
from aiida_aceal.common.words import counted

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

    from aiida_aceal.report.judgement import Judgement


def decisions(node: ProcessNode) -> list[str]:
    """Everything that the campaign and its children reported, in order."""
    from aiida.orm import Log

    from aiida_aceal.workflows.base import descendants

    found = []
    for process in (node, *descendants(node)):
        for log in Log.collection.get_logs_for(process):
            message = log.message
            if message.startswith("[") and "]: " in message:
                message = message.split("]: ", 1)[1]
            found.append((log.time, f"{log.time:%Y-%m-%d %H:%M:%S}  <{process.pk}> {message}"))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def facts(node: ProcessNode, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What stands at the top of the report."""
    from aiida.manage import get_manager

    from aiida_aceal.report.costs import cost_words
    from aiida_aceal.workflows.costs import campaign_costs
    from aiida_aceal.workflows.windows.calibration import proposal_text

    inputs = node.inputs
    result: dict[str, Any] = dict(line.split(": ", 1) for line in judgement_lines(node, rows))
    result["Campaign"] = f"<{node.pk}> {node.uuid} in profile {get_manager().get_profile().name}"
    if node.process_state is not None:
        how = "converged" if node.is_finished_ok else (node.exit_message or node.process_status or "")
        result["State"] = f"{node.process_state.value}: {how}".rstrip(": ")
    result["Started"] = f"{node.ctime:%Y-%m-%d %H:%M:%S}"
    if "potential" in inputs:
        pot = inputs.potential
        sizes = ", ".join(f"{el} {n}" for el, n in pot.n_functions.items())
        result["Basis"] = f"{sizes} functions, cutoff {pot.cutoff:g} Å, {', '.join(pot.radial_type)}"
    if "labeller" in inputs:
        settings = inputs.labeller.settings.get_dict() if "settings" in inputs.labeller else {}
        who = settings.get("calculator", "")
        result["Labels"] = f"{inputs.labeller.entry_point.value} {who}".strip()
    if node.description:
        result["Read"] = node.description
    if "seed" in inputs:
        result["Seed"] = inputs.seed.value
    if rows:
        result["Wall time"] = f"{sum(row.get('wall_seconds') or 0 for row in rows):.0f} s"
        core = sum(row.get("label_core_seconds") or 0 for row in rows)
        labels = sum(row.get("n_labelled") or 0 for row in rows) + sum(row.get("n_validation") or 0 for row in rows)
        result["Cost of labels"] = f"{labels} labels, {core:.1f} core seconds"
        result["Jobs"] = f"{sum(row.get('n_jobs') or 0 for row in rows)}, of which "
        result["Jobs"] += f"{sum(row.get('n_jobs_from_cache') or 0 for row in rows)} taken from earlier campaigns"
        result["Cost"] = cost_words(campaign_costs(node))
        proposed = proposal_text(rows)
        if proposed:
            result["Proposed by the calibration"] = proposed
        for line in result_lines(node, rows):
            name, text = line.split(": ", 1)
            result[name] = text
    return result


def result_lines(node: ProcessNode, rows: list[dict[str, Any]]) -> list[str]:
    """Which potential is returned, and which errors come from which set; as far as the campaign got and recorded it."""
    from aiida_aceal.workflows.base import output
    from aiida_aceal.workflows.summary import best_row

    lines = []
    force = [row for row in rows if row.get("holdout_forces_rmse")]
    best = best_row(rows)
    if best:
        latest = next((row for row in reversed(rows) if row.get("accepted")), best)
        also = f"; that of generation {latest['generation']}, which explored last, is the output latest"
        lines.append(
            f"Potential: of generation {best['generation']}, the best on the validation set"
            + ("" if output(node, "latest__potential") is None else also)
        )
    if len(force) > 1:
        last = best if best.get("holdout_forces_rmse") else force[-1]
        first, value = force[0]["holdout_forces_rmse"], last["holdout_forces_rmse"]
        lines.append(
            f"Validation force RMSE (gate, choice, calibration): {1000 * first:.1f} -> {1000 * value:.1f} meV/A, "
            + (f"{first / value:.1f} times smaller" if first >= 1.05 * value else "not smaller")
        )
    lines += property_lines(node)
    if not node.is_terminated:
        return lines + judgement_lines(node, rows)
    summary = output(node, "summary")
    tested = summary.get_dict() if summary is not None else {}
    if tested.get("test_energy_rmse") is not None:
        numbers = f"energy {1000 * tested['test_energy_rmse']:.2f} meV/atom"
        if tested.get("test_forces_rmse") is not None:
            numbers += f", forces {1000 * tested['test_forces_rmse']:.1f} meV/A"
        lines.append(f"Test RMSE (only reported): {numbers}, {tested['n_test']} structures")
    elif best:
        lines.append("Test set: none; errors on the validation set, by which the potential was chosen, flatter it")
    return lines + judgement_lines(node, rows)


def judgement(node: ProcessNode, rows: list[dict[str, Any]]) -> Judgement | None:
    """How good the potential is that the campaign returns, or would return now; ``None`` if nothing is known."""
    from aiida_aceal.report.judgement import judge
    from aiida_aceal.report.properties import last_validation
    from aiida_aceal.report.rows import generations
    from aiida_aceal.workflows.base import output
    from aiida_aceal.workflows.summary import best_row

    def of_the_best(name: str) -> Any:
        found = output(node, name)
        for child in reversed(generations(node)):
            found = found or output(child, f"best__{name}")
        return found

    def content(report: Any) -> dict[str, Any] | None:
        return None if report is None else report.get_dict()

    potential = of_the_best("potential")
    fitted = output(potential.creator, "report") if potential is not None and potential.creator is not None else None
    force = [row["holdout_forces_rmse"] for row in rows if row.get("holdout_forces_rmse")]
    best = best_row(rows).get("holdout_forces_rmse")
    return judge(
        content(of_the_best("validation_report")),
        content(output(node, "test_report")),
        content(fitted),
        force[0] / best if best and len(force) > 1 else None,
        last_validation(node) is not None,
    )


def judgement_lines(node: ProcessNode, rows: list[dict[str, Any]]) -> list[str]:
    """The judgement, line by line."""
    found = judgement(node, rows)
    return [] if found is None else list(found.lines)


def property_lines(node: ProcessNode) -> list[str]:
    """The worst property of the last validation."""
    from aiida_aceal.report.properties import last_validation, worst_text
    from aiida_aceal.workflows.base import output

    child = last_validation(node)
    if child is None:
        return []
    summary = output(child, "summary").get_dict()
    failed = f"; without numbers: {', '.join(summary['failed'])}" if summary["failed"] else ""
    if not summary["worst"]:
        return [f"Worst property: none was compared{failed}"]
    return [f"Worst property: {worst_text(summary['worst'])}, validation <{child.pk}>{failed}"]


def story(node: ProcessNode, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Three sentences, each with its class of style: what happened, how good the result is, what to do next."""
    labels = sum((row.get("n_labelled") or 0) + (row.get("n_validation") or 0) for row in rows)
    done = f"{counted(len(rows), 'generation')} with {counted(labels, 'label')}"
    if not node.is_terminated:
        first = (f"The campaign is still running: {done} so far.", "")
    elif node.is_finished_ok:
        first = (f"Converged after {done}: every run reached its full length within the limits of gamma.", "")
    else:
        reason = (node.exit_message or node.process_status or node.exception or "no reason recorded").rstrip(".")
        first = (f"Not converged after {done}: {reason}.", "moderate")
    lines = dict(line.split(": ", 1) for line in result_lines(node, rows))
    sentences = [first]
    errors = lines.get("Errors")
    if errors:
        sentences.append((f"Errors are {errors}.", errors.split()[0]))
    else:
        named = [name for name in lines if name.startswith(("Validation force RMSE", "Test RMSE"))]
        sentences += [(f"{name}: {lines[name]}.", "") for name in named[-1:]]
    if lines.get("Next"):
        sentences.append((f"Next: {lines['Next']}.", ""))
    elif node.is_terminated and not node.is_finished_ok:
        sentences.append((f"Next: aiida-aceal resume {node.pk} goes on.", ""))
    return sentences


def write_report(node: ProcessNode, target: Path) -> Path:
    """Write the HTML report of a campaign; returns the path."""
    from aiida.manage import get_manager

    from aiida_aceal.report import interactive
    from aiida_aceal.report.charts import campaign_charts
    from aiida_aceal.report.costs import cost_cells
    from aiida_aceal.report.html import cost_section
    from aiida_aceal.report.page import Interactive, page
    from aiida_aceal.report.rows import report_nodes
    from aiida_aceal.report.table import HEADINGS, cells
    from aiida_aceal.workflows.costs import campaign_costs

    reports = report_nodes(node)
    rows, costs = [report.get_dict() for report in reports], campaign_costs(node)
    profile = get_manager().get_profile().name
    shown = Interactive(
        charts=campaign_charts(rows, costs, interactive.runs_of(node), interactive.parity_of(node)),
        structures=interactive.structures_of(node, rows),
        nodes=interactive.nodes_of(node),
        reports=[(report.pk, f"verdi -p {profile} data core.dict show {report.pk}") for report in reports],
        story=story(node, rows),
    )
    text = page(
        node.label or f"Active learning campaign {node.pk}",
        rows,
        HEADINGS,
        [cells(row) for row in rows],
        {**facts(node, rows), **interactive.versions_of(node)},
        decisions(node),
        cost_section(*cost_cells(costs)) + _properties(node),
        shown,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, text)
    return target


def _properties(node: ProcessNode) -> str:
    """Part of the page on the properties of the potential, empty if there are none."""
    from aiida_aceal.report.properties import last_validation, load, section

    child = last_validation(node)
    return section(load(child)) if child is not None else ""


def write_files(node: ProcessNode, folder: Path) -> list[Path]:
    """Report, potential (``.yaml``, ``.yace``), active set and all labelled structures of a campaign."""
    from aiida_aceal.workflows.base import output

    folder.mkdir(parents=True, exist_ok=True)
    written = [write_report(node, folder / "report.html")]
    for prefix, stem in (("", "potential"), ("latest__", "latest")):
        potential, active_set = output(node, f"{prefix}potential"), output(node, f"{prefix}active_set")
        if potential is not None:
            for suffix, text in ((".yaml", potential.content), (".yace", potential.get_yace())):
                write_text(folder / f"{stem}{suffix}", text)
                written.append(folder / f"{stem}{suffix}")
        if active_set is not None:
            write_bytes(folder / f"{stem}.asi", active_set.content)
            written.append(folder / f"{stem}.asi")
    sets = node.outputs.dataset if "dataset" in node.outputs else {}
    if sets:
        path = folder / "training.extxyz"
        with open_whole(path) as handle:
            for key in sorted(sets):
                sets[key].write_extxyz(handle)
        written.append(path)
    for role in ("validation", "test"):
        held = output(node, role)
        if held is not None:
            with open_whole(folder / f"{role}.extxyz") as handle:
                held.write_extxyz(handle)
            written.append(folder / f"{role}.extxyz")
    return written
