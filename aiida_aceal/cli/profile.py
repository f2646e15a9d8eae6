"""The package's own AiiDA profile, this machine as a computer, and the codes; nothing else is ever touched."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_aceal.common.errors import AceError

if TYPE_CHECKING:
    from aiida.manage.configuration import Profile
    from aiida.orm import AbstractCode, Computer

OWN_PROFILE = "aceal-demo"
COMPUTER = "aceal-localhost"
#: least time between two looks at the processes of this machine; without a pause, `ps` would run all the time
JOB_POLL_SECONDS = 0.1
#: executable -> plugin that is used if the code is picked in `verdi`
EXECUTABLES = {"aceal-worker": "aceal.evaluate", "aceal-lmp": "aceal.lammps"}


def configuration() -> Any:
    """AiiDA's configuration; the folder is made if there is none yet."""
    with warnings.catch_warnings(), one_at_a_time():
        warnings.simplefilter("ignore")  # "Creating AiiDA configuration folder"
        from aiida.manage.configuration import get_config

        return get_config(create=True)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """A lock among commands: two first starts at once must not make the same things side by side."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Creating AiiDA configuration folder"
        from aiida.manage.configuration.settings import AiiDAConfigDir

        folder = Path(AiiDAConfigDir.get())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "aceal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AceError(
            f"{folder}: AiiDA's configuration cannot be written ({error.strerror or error}); set AIIDA_PATH to "
            "a folder of your own"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def load(name: str | None, create: bool) -> Profile:
    """Load a profile; the package's own one is made if it is missing and ``create`` is set.

    :raises click.ClickException: no such profile, with what to do.
    """
    config = configuration()
    from aiida.manage.configuration import load_profile

    wanted = name or OWN_PROFILE
    if wanted == OWN_PROFILE and create:
        _make_sure_of_own_profile()
        config = configuration()
    if wanted not in config.profile_names:
        if wanted != OWN_PROFILE:
            known = ", ".join(config.profile_names) or "none yet"
            raise click.ClickException(
                f"there is no AiiDA profile '{wanted}' (known: {known}); create one with verdi presto"
            )
        raise click.ClickException(
            f"the profile '{OWN_PROFILE}' does not exist yet: run `aiida-aceal demo`, or name another with --profile"
        )
    try:
        loaded = load_profile(wanted, allow_switch=True)
        keep_what_was_read()
        if wanted == OWN_PROFILE:
            commit_without_waiting()
    except Exception as error:  # AiiDA raises many types for a broken or newer storage
        raise click.ClickException(f"profile '{wanted}' cannot be loaded: {error}") from error
    return loaded


def commit_without_waiting() -> None:
    """Transactions of the loaded profile return before the disk has them, if it is SQLite with a write-ahead journal.

    A campaign makes many small ones, each a few milliseconds of waiting otherwise. A process that dies loses
    nothing by this; a machine that loses its power may lose the last transactions, never the data base.
    """
    from aiida.manage import get_manager
    from sqlalchemy import event

    session = get_manager().get_profile_storage().get_session()
    engine = session.get_bind()
    if engine.dialect.name != "sqlite":
        return
    connection = session.connection()
    if connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal":
        connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
        event.listen(engine, "connect", lambda new, _: new.execute("PRAGMA synchronous=NORMAL"))
    session.commit()


def keep_what_was_read() -> None:
    """Objects of the session stay as they are after a transaction, in this interpreter and from now on.

    Else each of the many small transactions makes all nodes in memory be read again. AiiDA reads what may change
    (attributes, extras) anew at each access anyway.
    """
    from aiida.manage import get_manager

    get_manager().get_profile_storage().get_session().expire_on_commit = False


@contextlib.contextmanager
def without_storing(name: str | None) -> Iterator[Callable[[str | None, str | None, str], AbstractCode]]:
    """A profile to check inputs in: the one of that name, or one in memory if our own does not exist yet.

    Gives a :func:`find_code` that stores nothing: a code of this installation is a node in memory.

    :raises click.ClickException: no such profile
    """
    config = configuration()
    from aiida.manage import get_manager
    from aiida.storage.sqlite_temp import SqliteTempBackend

    wanted = name or OWN_PROFILE
    if wanted in config.profile_names:
        profile = wanted
    elif name is None:
        profile = SqliteTempBackend.create_profile("aceal-dry-run")
    else:
        load(name, create=False)  # says which ones there are

    def find(label: str | None, default: str | None, where: str) -> AbstractCode:
        if label is not None or default is None:
            return find_code(label, default, where)
        from aiida.orm import Computer, InstalledCode

        computer = Computer(
            label=COMPUTER, hostname="localhost", transport_type="core.local", scheduler_type="core.direct",
            workdir=str(Path(config.dirpath) / "scratch"),
        )  # fmt: skip
        code = InstalledCode(
            label=default, computer=computer, filepath_executable=str(executable(default)),
            default_calc_job_plugin=EXECUTABLES[default],
        )  # fmt: skip
        code.with_mpi = False
        return code

    # not profile_context of AiiDA: it leaves the profile loaded if the check raises
    manager = get_manager()
    previous = manager.get_profile()
    manager.load_profile(profile, allow_switch=True)
    try:
        yield find
    finally:
        if previous is None:
            manager.unload_profile()
        else:
            manager.load_profile(previous, allow_switch=True)


def _make_sure_of_own_profile() -> None:
    """Make the own profile if it is missing, or anew if making it was interrupted."""
    from aiida.manage.configuration import reset_config

    config = configuration()
    if _is_whole(config):
        return
    with one_at_a_time():
        reset_config()  # another process may have made it while we waited
        from aiida.manage.configuration import get_config

        config = get_config()
        if not _is_whole(config):
            _create(config)


def _is_whole(config: Any) -> bool:
    """Whether the last step of making the own profile was done: before it, nothing is stored in there."""
    if OWN_PROFILE not in config.profile_names:
        return False
    return config.get_option("transport.task_retry_initial_interval", scope=OWN_PROFILE, default=False) is not None


def _create(config: Any) -> None:
    """The own profile: SQLite, no broker, no service; the default profile stays as it is."""
    from aiida.manage.configuration import create_profile

    default = config.default_profile_name
    folder = Path(config.dirpath) / "repository" / OWN_PROFILE
    if OWN_PROFILE in config.profile_names:
        config.remove_profile(OWN_PROFILE)
    if folder.exists():  # left by an interrupted start; set aside, not deleted
        aside = folder.with_name(f"{OWN_PROFILE}.unfinished-{time.time_ns()}")
        folder.rename(aside)
        click.echo(f"An interrupted start had left an unfinished profile, which now lies in {aside}.", err=True)
    create_profile(
        config,
        name=OWN_PROFILE,
        email="aceal@localhost",
        storage_backend="core.sqlite_dos",
        storage_config={"filepath": str(folder)},
    )
    # a write-ahead journal makes small transactions four times faster on a busy disk
    connection = sqlite3.connect(folder / "database.sqlite")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    if default is None and config.default_profile_name is not None:
        config._default_profile = None  # a profile of ours must not become the user's default
    config.set_option("runner.poll.interval", 0, scope=OWN_PROFILE)
    # a code that does not start shall be an error now, not after five pauses of growing length
    config.set_option("transport.task_maximum_attempts", 1, scope=OWN_PROFILE)
    config.set_option("transport.task_retry_initial_interval", 1, scope=OWN_PROFILE)
    config.store()  # all at once: the options say that the profile is whole


def local_computer() -> Computer:
    """This machine: no scheduler, no login shell, no waiting. Made if it is missing."""
    from aiida.common.exceptions import NotExistent
    from aiida.manage.configuration import get_config, get_profile
    from aiida.orm import Computer, load_computer

    with contextlib.suppress(NotExistent):
        return load_computer(COMPUTER)
    with one_at_a_time():
        with contextlib.suppress(NotExistent):  # made by another process meanwhile
            return load_computer(COMPUTER)
        computer = Computer(
            label=COMPUTER,
            hostname="localhost",
            description="This machine, for aiida-aceal",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=str(Path(get_config().dirpath) / "scratch" / get_profile().name),
        ).store()
        computer.configure(safe_interval=0, use_login_shell=False)
        computer.set_minimum_job_poll_interval(JOB_POLL_SECONDS)
        computer.set_default_mpiprocs_per_machine(1)
        return computer


def executable(name: str) -> Path:
    """Where a console script of this installation is.

    :raises click.ClickException: it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise click.ClickException(f"{path} is missing: install the package into this environment (pip install .)")
    return path


def local_code(name: str) -> AbstractCode:
    """Code of a console script that stands beside the running Python. Made if it is missing."""
    from aiida.orm import Computer, InstalledCode, QueryBuilder

    computer, path = local_computer(), executable(name)
    with one_at_a_time():
        query = QueryBuilder().append(
            InstalledCode, filters={"attributes.filepath_executable": str(path)}, tag="code", project="*"
        )
        query.append(Computer, with_node="code", filters={"id": computer.pk})
        for code in query.all(flat=True):
            if not code.is_hidden:
                return code
        taken = QueryBuilder().append(InstalledCode, filters={"label": {"like": f"{name}%"}}).count()
        code = InstalledCode(
            label=name if not taken else f"{name}-{taken + 1}",
            description=f"{name} of aiida-aceal on this machine",
            computer=computer,
            filepath_executable=str(path),
            default_calc_job_plugin=EXECUTABLES[name],
        )
        code.with_mpi = False
        return code.store()


def find_code(label: str | None, default: str | None, where: str) -> AbstractCode:
    """The code of a label, or the local executable ``default``.

    :raises AceError: no such code.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import InstalledCode, QueryBuilder, load_code

    if label is None:
        if default is None:
            raise AceError(
                f"{where}: name a code, such as vasp@cluster (verdi code list shows the codes of the profile)"
            )
        return local_code(default)
    try:
        return load_code(label)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        known = sorted({code.full_label for code in QueryBuilder().append(InstalledCode).all(flat=True)})
        raise AceError(
            f"{where}: no code '{label}' in this profile; known: {', '.join(known) or 'none'} "
            "(create one with verdi code create)"
        ) from error
