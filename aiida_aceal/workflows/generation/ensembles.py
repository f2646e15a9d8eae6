"""An ensemble beside the potential of a campaign: made by each fit, it scores the candidates of the next generation."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows import summary
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.ensemble_settings import ENSEMBLE, fit_keys
from aiida_aceal.workflows.generation.base import GenerationBase


@calcfunction
def with_ensemble(settings: orm.Dict, ensemble: orm.Dict) -> orm.Dict:
    """Settings of a fit that makes the ensemble as well."""
    given = settings.get_dict()
    own = {**(given.get("ensemble") or {}), **(fit_keys(ensemble.get_dict()) or {})}
    return orm.Dict({**given, "ensemble": own})


@calcfunction
def choose_uncertain(candidates: ConfigurationsData, settings: orm.Dict) -> dict[str, Any]:
    """The scored candidates whose indicator (``name``: dF or dE) exceeds ``threshold``."""
    given = settings.get_dict()
    scores = [atoms.info[given["name"]] for atoms in candidates.iter_atoms()]
    indices = [k for k, score in enumerate(scores) if score > given["threshold"]]
    result: dict[str, Any] = {"report": orm.Dict({"n_candidates": len(scores), "n_uncertain": len(indices)})}
    if indices:
        result["candidates"] = candidates.select(indices, source="explore")
    return result


class EnsembleSteps(GenerationBase):
    """Steps of a generation that has an ensemble."""

    def _ensemble(self) -> dict[str, Any]:
        return {**ENSEMBLE, **(self.inputs.ensemble.get_dict() if "ensemble" in self.inputs else {})}

    def why_the_ensemble_cannot_decide(self) -> str | None:
        """Reason why the ensemble that is to choose candidates has no threshold for its indicator, or ``None``."""
        node = self.inputs.get("ensemble_data")
        if node is None or self._ensemble()["candidates"] != "ensemble":
            return None
        if node.base.attributes.get("use") in node.thresholds:
            return None
        return "; ".join(node.threshold_notes) or "the ensemble was made without thresholds"

    def has_to_score(self) -> bool:
        """Whether there are candidates and an ensemble to score them with."""
        return self.ctx.candidates is not None and "ensemble_data" in self.inputs

    def score(self) -> None:
        """Start the scoring of the candidates: dE and dF beside gamma."""
        cls, inputs = self._worker(
            "aceal.grade",
            potential=self.inputs.potential,
            active_set=self.inputs.active_set,
            configurations=orm.load_node(self.ctx.candidates),
            ensemble=self.inputs.ensemble_data,
        )
        self.start_child("score", cls, inputs, f"generation {self.number}: score candidates with the ensemble")

    def inspect_scores(self) -> None:
        """Keep the scores; if the ensemble decides, only candidates above its threshold stay."""
        child = self.ctx["score"]
        scored = output(child, "graded")
        if scored is None or not child.is_finished_ok:
            self.report(f"generation {self.number}: candidates not scored; gamma alone decides: {why(child)}")
            return
        self.ctx.candidates = scored.uuid
        facts = self.report_of("score")["ensemble"]
        settings = self._ensemble()
        name, key = {"forces": ("dF", "forces"), "energy": ("dE", "energy")}[facts["use"]]
        limit = facts["thresholds"].get(key)
        threshold = None if limit is None else settings["factor"] * limit
        self.ctx.facts["ensemble"] = {
            "indicator": name,
            "threshold": threshold,
            "max_dE": facts["dE"]["max"],
            "max_dF": facts["dF"]["max"],
        }
        self.report(
            f"generation {self.number}: ensemble of {facts['members']}: largest dE {1000 * facts['dE']['max']:.3g} "
            f"meV/atom, dF {1000 * facts['dF']['max']:.3g} meV/A; "
            + (
                f"{name} has no threshold"
                if threshold is None
                else f"{name} above its threshold {1000 * threshold:.3g} in {facts[name].get('n_above', 0)} of "
                f"{len(scored)} candidates"
            )
        )
        if settings["candidates"] == "ensemble":
            self._keep_uncertain(scored, name, threshold)

    def _keep_uncertain(self, scored: ConfigurationsData, name: str, threshold: float) -> None:
        chosen = self.call_once(
            "choose_uncertain",
            choose_uncertain,
            candidates=scored,
            settings=orm.Dict({"name": name, "threshold": threshold}),
        )
        found = chosen.get("candidates")
        self.ctx.candidates = found.uuid if found is not None else None
        self.ctx.facts["n_candidates"] = 0 if found is None else len(found)
        if found is not None:
            self.report(f"generation {self.number}: the ensemble decides: {len(found)} candidates stay")
            return
        runs = [self.report_of(f"explore_{key}") for key in sorted(self.inputs.explorers)]
        complete = bool(runs) and all(runs) and summary.exploration_numbers(runs).get("complete")
        self.ctx.converged = bool(complete)
        self.ctx.facts["status"] = "converged" if complete else "no_candidates"
        self.report(
            f"generation {self.number}: no candidate is above the threshold of the ensemble"
            + (", and every run reached its full length: converged" if complete else "")
        )

    def ensemble_for_selection(self) -> orm.Data | None:
        """The ensemble, if it takes the place of gamma in the selection."""
        return self.inputs.get("ensemble_data") if self._ensemble()["selection"] == "ensemble" else None

    def fit_settings(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs of the fit, with what asks for an ensemble."""
        if fit_keys(self._ensemble()) is None:
            return inputs
        given = inputs.get("settings") or orm.Dict({})
        merged = self.call_once("fit_settings", with_ensemble, settings=given, ensemble=self.inputs.ensemble)
        return {**inputs, "settings": merged}
