"""``aceal.label.manual``: structures are handed out, and a person brings their labels back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, calcfunction, while_

from aiida_aceal.calculations.label_functions import collect_given_labels, merge_labels
from aiida_aceal.common.settings import check
from aiida_aceal.common.words import counted
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.labels.handout import ManualLabelSettings, write_handout
from aiida_aceal.workflows.base import AceWorkChain

#: exit status of a process that waits for labels, and of the generation and the campaign above it
WAITING, WAITING_GENERATION, WAITING_CAMPAIGN = 320, 410, 414
#: extra of a labeller: uuids of the labels that were brought back for it
BROUGHT = "aceal_labels"


class AceLabelManualWorkChain(AceWorkChain):
    """Hand structures out and wait until `aiida-aceal labels` brings their labels.

    ``settings``: :class:`ManualLabelSettings`. Run by the daemon, the process pauses; otherwise, and without `pause`,
    it ends with exit code 320, and a campaign that is resumed gives the labels as ``labels``.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input(
            "configurations",
            valid_type=ConfigurationsData,
            help="Configurations to label; existing labels are replaced.",
        )
        spec.input(
            "settings", valid_type=orm.Dict, serializer=orm.to_aiida_type, default=lambda: orm.Dict({}),
            validator=lambda node, _: cls.check_settings({"settings": node}), help=cls.__doc__,
        )  # fmt: skip
        spec.input(
            "labels",
            valid_type=ConfigurationsData,
            required=False,
            help="Labels that were brought back, also of other structures. If there are some of `configurations`, "
            "nothing is waited for, and those that lack one are reported as not tried.",
        )
        spec.outline(cls.hand_out, while_(cls.has_to_wait)(cls.wait), cls.collect)
        spec.output("files", valid_type=orm.FolderData, help="The structures as files: extended XYZ, POSCARs.")
        spec.output("labelled", valid_type=ConfigurationsData, required=False, help="As of every labeller.")
        spec.output("report", valid_type=orm.Dict, required=False, help="As of every labeller; costs are not known.")
        spec.exit_code(310, "ERROR_NOTHING_LABELLED", message="No configuration could be labelled: {message}")
        spec.exit_code(WAITING, "ERROR_WAITING_FOR_LABELS", message="{number} wait for labels.")

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What is wrong with ``settings``."""
        given = inputs.get("settings")
        return check(ManualLabelSettings, given.get_dict(), "settings") if given is not None else None

    @property
    def settings(self) -> ManualLabelSettings:
        """Settings with defaults."""
        return ManualLabelSettings.read(self.inputs.settings.get_dict())

    # --- outline -----------------------------------------------------------------------------------------------

    def hand_out(self) -> None:
        """Attach the files."""
        files = self.call_once(
            "hand_out", hand_out, configurations=self.inputs.configurations, settings=self.inputs.settings
        )
        self.out("files", files)
        self.ctx.ends = False

    def labels(self) -> dict[str, ConfigurationsData]:
        """All labels there are, of these structures and perhaps of others."""
        found = {"given": self.inputs.labels} if "labels" in self.inputs else {}
        for number, uuid in enumerate(self.node.base.extras.get(BROUGHT, [])):
            found[f"brought_{number:03d}"] = orm.load_node(uuid)
        return found

    def has_to_wait(self) -> bool:
        """Until there are labels, or the process is to end without."""
        wanted = set(self.inputs.configurations.hashes)
        return not self.ctx.ends and not any(wanted.intersection(node.hashes) for node in self.labels().values())

    def wait(self) -> None:
        """Pause if a daemon runs the process, otherwise go on to its end."""
        number = counted(len(self.inputs.configurations), "structure")
        self.report(f"{number} wait for labels: aiida-aceal labels {root_of(self.node).pk} FILE...")
        if self.runner.is_daemon_runner and self.settings.pause:
            self.pause(f"waiting for labels of {number}")
        else:
            self.ctx.ends = True

    def collect(self) -> ExitCode | None:
        """Labels of all that came back."""
        configurations = self.inputs.configurations
        if self.ctx.ends:
            return self.exit_codes.ERROR_WAITING_FOR_LABELS.format(number=counted(len(configurations), "structure"))
        outputs = self.call_once(
            "collect", collect_given_labels, configurations=configurations, settings=self.inputs.settings,
            **self.labels(),
        )  # fmt: skip
        for name in ("labelled", "report"):
            if name in outputs:
                self.out(name, outputs[name])
        facts = outputs["report"].get_dict()
        self.report(f"{facts['n_labelled']} of {len(configurations)} configurations labelled")
        if not facts["n_labelled"]:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=facts["failures"][0]["reason"])
        return None


@calcfunction
def hand_out(configurations: ConfigurationsData, settings: orm.Dict) -> orm.FolderData:
    """The structures as files."""
    with tempfile.TemporaryDirectory() as folder:
        write_handout(Path(folder), configurations.to_atoms(), ManualLabelSettings.read(settings.get_dict()))
        return orm.FolderData(tree=folder)


def root_of(node: orm.ProcessNode) -> orm.ProcessNode:
    """The process at the top."""
    while node.caller is not None:
        node = node.caller
    return node


def labellers(campaign: orm.ProcessNode) -> list[orm.ProcessNode]:
    """All processes of this kind below a campaign, in their order."""
    found = [
        node for node in campaign.called_descendants if node.process_label == AceLabelManualWorkChain.__name__
    ]  # fmt: skip
    return sorted(found, key=lambda node: node.pk)


def waiting(campaign: orm.ProcessNode) -> list[orm.ProcessNode]:
    """Those that wait for labels: ended, or paused."""
    found = labellers(campaign)
    return [node for node in found if node.exit_status == WAITING or (node.paused and not node.is_terminated)]


def brought(campaign: orm.ProcessNode, labeller: orm.ProcessNode | None = None) -> list[ConfigurationsData]:
    """Labels that were brought to a campaign, or to one of its labellers, the oldest first."""
    nodes = labellers(campaign) if labeller is None else [labeller]
    return [orm.load_node(uuid) for node in nodes for uuid in node.base.extras.get(BROUGHT, [])]


def bring(labeller: orm.ProcessNode, labels: ConfigurationsData) -> None:
    """Keep labels for a labeller that waits."""
    labels.store()
    labeller.base.extras.set(BROUGHT, [*labeller.base.extras.get(BROUGHT, []), labels.uuid])


def gathered(new: Sequence[ConfigurationsData], old: ConfigurationsData | None) -> ConfigurationsData:
    """All labels as one node, for the campaign that goes on."""
    sets = [*([] if old is None else [old]), *new]
    return sets[0] if len(sets) == 1 else merge_labels(**{f"set_{k:03d}": node for k, node in enumerate(sets)})
