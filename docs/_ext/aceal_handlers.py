"""Page about the handlers of the restart WorkChains, from the classes."""

from __future__ import annotations

import inspect

from aceal_text import cell, code, table


def handlers_page() -> str:
    """One table for each WorkChain: its own handlers, in the order in which they are asked."""
    from aiida_aceal.workflows.explorers.restart import MdRestartWorkChain
    from aiida_aceal.workflows.labellers.restart import LabelRestartWorkChain
    from aiida_aceal.workflows.restart import RestartWorkChain
    from aiida_aceal.workflows.restart_fit import FitRestartWorkChain

    parts = [
        "# Handlers of restarts\n",
        "Read from the classes. Handlers of a larger priority come first; `handler_overrides` switches them off or "
        "changes the priority. What no handler knows ends the job with its own exit code, unless "
        "`on_unhandled_failure` says otherwise.\n",
    ]
    chains = {
        "aceal.restart": RestartWorkChain,
        "aceal.restart.label": LabelRestartWorkChain,
        "aceal.restart.md": MdRestartWorkChain,
        "aceal.restart.fit": FitRestartWorkChain,
    }
    for name, process in chains.items():
        rows = []
        for handler in sorted(process.get_process_handlers(), key=lambda handler: -handler.priority):
            text = cell(" ".join((inspect.getdoc(handler) or "").split()))
            rows.append((code(handler.__name__), str(handler.priority), "yes" if handler.enabled else "no", text))
        parts += [f"## `{name}`\n", table(("handler", "priority", "enabled", "what it does"), rows)]
    return "\n".join(parts)
