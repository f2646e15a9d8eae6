"""Console scripts ``aceal-worker`` and ``aceal-lmp``: through a warm server if there is one, else by themselves.

Imports as little as possible: with a warm server, that is all there is to wait for.
"""

from __future__ import annotations

import os

#: environment variable that names the socket of a warm server, see `aiida_aceal.worker.warm`
ADDRESS = "ACEAL_WARM_SERVER"


def worker() -> None:
    """Console script ``aceal-worker``."""
    _through_server("aceal-worker")
    from aiida_aceal.worker.main import main

    main()


def lammps() -> None:
    """Console script ``aceal-lmp``."""
    _through_server("aceal-lmp")
    from aiida_aceal.lammps.main import main

    main()


def _through_server(program: str) -> None:
    """Let the server run the program and end with its status; returns if there is no server, or it declines."""
    address = os.environ.get(ADDRESS)
    if address:
        from aiida_aceal.worker.client import run_there

        run_there(address, program)
