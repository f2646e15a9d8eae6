"""First half of a generation: explore, select, label."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode

from aiida_aceal.common.words import counted
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows import functions, ports, summary
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.generation.ensembles import EnsembleSteps
from aiida_aceal.workflows.generation.large import LargeCandidates
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs


class GatheringSteps(LargeCandidates, EnsembleSteps):
    """Steps that find new configurations and label them."""

    def has_to_explore(self) -> bool:
        """Without an active set there is no gamma yet."""
        return "active_set" in self.inputs

    def explore(self) -> None:
        """Start all explorers at once."""
        for index, name in enumerate(sorted(self.inputs.explorers)):
            step = self.inputs.explorers[name]
            cls = step_class(step["entry_point"].value)
            given = step.get("settings") or orm.Dict({})
            settings = self.call_once(
                f"window_{name}", functions.with_window, settings=given, window=self.inputs.window
            )
            inputs = step_inputs(
                cls,
                {key: value for key, value in step.items() if key != "settings"},
                potential=self.inputs.potential,
                active_set=self.inputs.active_set,
                settings=settings,
                seed=orm.Int(derived_seed(self.inputs.seed.value, self.number, 1 + index)),
            )
            self.start_child(f"explore_{name}", cls, inputs, f"generation {self.number}: explore {name}")
        self.report(f"generation {self.number}: exploring with {', '.join(sorted(self.inputs.explorers))}")

    def inspect_exploration(self) -> ExitCode | None:
        """Collect candidates of all explorers; a failed one costs only itself."""
        names = [f"explore_{name}" for name in sorted(self.inputs.explorers)]
        sets, failures = {}, []
        for name in names:
            child = self.ctx[name]
            candidates = output(child, "candidates")
            if candidates is not None:
                sets[name.removeprefix("explore_")] = candidates
            if not child.is_finished_ok:
                failures.append(why(child))
                self.report(f"generation {self.number}: {failures[-1]}")
        if len(failures) == len(names) and not sets:
            return self.exit_codes.ERROR_EXPLORATION_FAILED.format(reason="; ".join(failures))
        numbers = summary.exploration_numbers([self.report_of(name) for name in names])
        if failures:
            numbers["complete"] = False
        stop = self.ctx.facts["gamma_stop"]
        self.ctx.converged = summary.is_converged(numbers, stop)
        if sets and not self.ctx.converged:
            excluded = sorted(set(self.inputs.quarantine.get_list()) if "quarantine" in self.inputs else set())
            merged = self.call_once(
                "merge", functions.merge_candidates, excluded=orm.List([*excluded, *self._known_hashes(sets)]), **sets
            )
            if "candidates" in merged:
                self.ctx.candidates = merged["candidates"].uuid
                self.ctx.facts["n_candidates"] = len(merged["candidates"])
        gamma = numbers.get("max_gamma")
        self.report(
            f"generation {self.number}: explored {numbers.get('md_steps_reached')} of {numbers.get('md_steps_total')} "
            f"steps, max gamma {'unknown' if gamma is None else format(gamma, '.3g')}, "
            f"{self.ctx.facts['n_candidates']} candidates"
        )
        if self.ctx.converged:
            self.ctx.facts["status"] = "converged"
            self.report(
                f"generation {self.number}: every run reached its full length with gamma <= {stop:g}: converged"
            )
        elif self.ctx.candidates is None:
            self.ctx.facts["status"] = "no_candidates"
            self.report(f"generation {self.number}: not converged, but no configuration lies in the window")
        return None

    def _known_hashes(self, sets: dict[str, ConfigurationsData]) -> list[str]:
        """Candidates that are in the training set already."""
        known = {digest for node in (self.inputs.get("dataset") or {}).values() for digest in node.hashes}
        return sorted(known.intersection(digest for node in sets.values() for digest in node.hashes))

    def has_candidates(self) -> bool:
        """Whether there is anything to select from."""
        return self.ctx.candidates is not None

    def select(self) -> None:
        """Start the selection."""
        settings = self._settings("selection")
        cls, inputs = self._worker(
            "aceal.select",
            potential=self.inputs.potential,
            active_set=self.inputs.active_set,
            configurations=orm.load_node(self.ctx.candidates),
            settings=orm.Dict(settings),
            ensemble=self.ensemble_for_selection(),
            reference=dict(self.inputs.get("dataset") or {}) or None,
            seed=orm.Int(derived_seed(self.inputs.seed.value, self.number, 0)),
        )
        self.start_child("select", cls, inputs, f"generation {self.number}: select")

    def inspect_selection(self) -> ExitCode | None:
        """Take what was chosen."""
        child = self.ctx["select"]
        if not child.is_finished_ok:
            return self.exit_codes.ERROR_SELECTION_FAILED.format(reason=why(child))
        selected = output(child, "selected")
        self.ctx.facts["n_selected"] = 0 if selected is None else len(selected)
        self.report(
            f"generation {self.number}: {self.ctx.facts['n_selected']} of {self.ctx.facts['n_candidates']} candidates "
            f"selected by {self._settings('selection')['strategy']}"
        )
        for line in self.report_of("select").get("notes", []):
            self.report(f"generation {self.number}: {line}")
        if selected is None:
            self.ctx.facts["status"] = "no_candidates"
        return None

    def _to_label(self) -> dict[str, ConfigurationsData]:
        wanted = {"initial": self.inputs.get("initial")} if not self.has_to_explore() else {}
        if self.ctx.get("select") is not None:
            wanted["label"] = output(self.ctx["select"], "selected")
        wanted["validation"] = self.inputs.validation
        return {key: node for key, node in wanted.items() if node is not None}

    def has_to_label(self) -> bool:
        """Whether there is anything without labels."""
        return any(not ports.is_labelled(node) for node in self._to_label().values()) or "label" in self._to_label()

    def label(self) -> None:
        """Start the labelling of what is new, and of the hold-out set if need be."""
        cls = step_class(self.inputs.labeller["entry_point"].value)
        for name, node in self._to_label().items():
            if name != "label" and ports.is_labelled(node):
                continue
            inputs = step_inputs(cls, self.inputs.labeller, configurations=node)
            self.start_child(f"label_{name}", cls, inputs, f"generation {self.number}: label {name}")
            self.report(f"generation {self.number}: labelling {counted(len(node), 'configuration')} ({name})")

    def inspect_labels(self) -> ExitCode | None:
        """Take what was labelled; failures are put in quarantine and counted."""
        total = failed = 0
        seconds = {"wall_seconds": 0.0, "core_seconds": 0.0}
        for name, node in self._to_label().items():
            child = self.ctx.get(f"label_{name}")
            if child is None:
                continue
            labelled = output(child, "labelled")
            report = self.report_of(f"label_{name}")
            if labelled is None:
                reasons = [str(item.get("reason")) for item in report.get("failures", [])[:1]]
                return self.exit_codes.ERROR_LABELLING_FAILED.format(reason="; ".join([why(child), *reasons]))
            missing = len(node) - len(labelled)
            total, failed = total + len(node), failed + missing
            for item in report.get("failures", []):
                self.ctx.quarantine.append({"hash": item.get("hash"), "reason": str(item.get("reason"))[:500]})
                self.report(f"generation {self.number}: label failed, quarantined: {self.ctx.quarantine[-1]}")
            for key in seconds:
                seconds[key] += float(report.get(key) or 0.0)
            if name == "validation":
                self.ctx.validation = labelled.uuid
                self.ctx.facts["n_validation"] = len(labelled)
            else:
                self.ctx.labelled = labelled.uuid
                self.ctx.facts["n_labelled"] = len(labelled)
        self.ctx.facts.update({"n_failed_labels": failed, **{f"label_{key}": value for key, value in seconds.items()}})
        tolerated = self._settings("limits")["max_failed_labels"]
        self.report(
            f"generation {self.number}: {total - failed} of {total} configurations labelled in "
            f"{seconds['core_seconds']:.1f} core seconds"
        )
        if failed > tolerated * total:
            return self.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.format(
                failed=failed, total=total, tolerated=f"{100 * tolerated:g} %"
            )
        return None
