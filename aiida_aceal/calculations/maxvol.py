"""``aceal.maxvol``: the MaxVol active set in-process, with provenance, for small and middle sets."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, calcfunction

from aiida_aceal.calculations.worker_base import union, union_hashes
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import check
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.uncertainty.settings import ActiveSetSettings


@calcfunction
def maxvol(potential: AcePotentialData, settings: orm.Dict, **datasets: ConfigurationsData) -> ActiveSetData:
    """Active set of the union of the sets (the CalcJob ``aceal.active_set`` is the same numerics for big ones).

    It blocks its worker while it runs: seconds at most. Running it twice gives the same set.

    :param settings: those of ``aceal.active_set``, :class:`~aiida_aceal.uncertainty.settings.ActiveSetSettings`.
    :param datasets: sets of configurations; equal ones count once.
    :return: the active set; exit status 301 with the reason if the input is bad.
    """
    from aiida_aceal.ace import AceModel
    from aiida_aceal.uncertainty import build_active_set, build_local_active_set
    from aiida_aceal.uncertainty.local_build import group_names

    given = {key: value for key, value in settings.get_dict().items() if value is not None}
    problem = check(ActiveSetSettings, given, "settings")
    if problem:
        return ExitCode(301, problem)
    if not datasets:
        return ExitCode(301, "give at least one set of configurations")
    values = ActiveSetSettings.read(given).to_dict(given=True)
    frames = [atoms for node, indices in union(datasets) for atoms in node.iter_atoms(indices)]
    try:
        model = AceModel(potential.get_potential())
        if "group_key" in values:
            values["groups"] = group_names(frames, values.pop("group_key"))
        local = "groups" in values or "clusters" in values
        build = build_local_active_set if local else build_active_set
        active_set = build(model, frames, **{k: v for k, v in values.items() if not local or k != "exclude_outliers"})
        return ActiveSetData.from_active_set(active_set, potential, structures=union_hashes(datasets))
    except AceError as error:
        return ExitCode(301, str(error))
