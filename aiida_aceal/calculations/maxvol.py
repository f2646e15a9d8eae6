"""``aceal.maxvol``: the MaxVol active set in-process, with provenance, for small and middle sets."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, calcfunction

from aiida_aceal.ace.errors import AceError
from aiida_aceal.calculations.worker_base import union, union_hashes
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData

#: keys of ``settings``
KEYS = ("kind", "tolerance", "memory", "exclude_outliers")


@calcfunction
def maxvol(potential: AcePotentialData, settings: orm.Dict, **datasets: ConfigurationsData) -> ActiveSetData:
    """Active set of the union of the sets (the CalcJob ``aceal.active_set`` is the same numerics for big ones).

    It blocks its worker while it runs: seconds at most. Running it twice gives the same set.

    :param settings: ``kind`` (``linear`` or ``full``), ``tolerance``, ``memory``, ``exclude_outliers``.
    :param datasets: sets of configurations; equal ones count once.
    :return: the active set; exit status 301 with the reason if the input is bad.
    """
    from aiida_aceal.ace import AceModel
    from aiida_aceal.uncertainty import build_active_set

    values = settings.get_dict()
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        return ExitCode(301, f"settings: unknown key '{unknown[0]}'; known: {', '.join(KEYS)}")
    if not datasets:
        return ExitCode(301, "give at least one set of configurations")
    frames = [atoms for node, indices in union(datasets) for atoms in node.iter_atoms(indices)]
    try:
        model = AceModel(potential.get_potential())
        active_set = build_active_set(model, frames, **values)
        return ActiveSetData.from_active_set(active_set, potential, structures=union_hashes(datasets))
    except AceError as error:
        return ExitCode(301, str(error))
