"""The own profile: made when needed, used again, nothing else touched. In processes of their own."""

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, sys
from aiida_aceal.cli import profile
loaded = profile.load(None, create=True)
codes = [profile.local_code(name).uuid for name in profile.EXECUTABLES]
from aiida.manage import get_manager
from aiida.orm import QueryBuilder, Computer
session = get_manager().get_profile_storage().get_session()
pragma = lambda name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
computer = QueryBuilder().append(Computer).one()[0]
print(json.dumps({"profile": loaded.name, "codes": codes, "computer": computer.uuid,
    "interval": computer.get_minimum_job_poll_interval(), "broker": loaded.process_control_backend,
    "journal": pragma("journal_mode"), "synchronous": pragma("synchronous"),
    "shell": computer.get_configuration()["use_login_shell"]}))
"""


@pytest.fixture
def python(tmp_path):
    def run(code):
        environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_own_profile_is_made_once_and_used_again(python, tmp_path):
    first, second = python(CODE), python(CODE)
    assert first == second
    assert first["profile"] == "aceal-demo"
    assert first["interval"] == 0.1
    assert (first["journal"], first["synchronous"]) == ("wal", 1)  # NORMAL
    assert first["broker"] is None
    assert first["shell"] is False
    config = json.loads((tmp_path / ".aiida" / "config.json").read_text())
    assert list(config["profiles"]) == ["aceal-demo"]
    assert not config.get("default_profile")


def test_other_profiles_and_the_default_stay_as_they_are(python, tmp_path):
    python(
        "import warnings; warnings.simplefilter('ignore')\n"
        "from aiida.manage.configuration import create_profile, get_config\n"
        "config = get_config(create=True)\n"
        f"create_profile(config, name='mine', email='a@b.c', storage_backend='core.sqlite_dos', "
        f"storage_config={{'filepath': '{tmp_path}/mine'}})\n"
        "config.set_default_profile('mine'); config.store(); print('{}')"
    )
    path = tmp_path / ".aiida" / "config.json"
    before = json.loads(path.read_text())
    python(CODE)
    after = json.loads(path.read_text())
    assert after["default_profile"] == "mine"
    assert after["profiles"]["mine"] == before["profiles"]["mine"]
    assert set(after["profiles"]) == {"mine", "aceal-demo"}


def test_every_installation_has_codes_of_its_own(python, tmp_path):
    other = CODE.replace(
        "codes =", "from pathlib import Path; profile.executable = lambda n: Path('/opt/other/bin') / n\ncodes ="
    )
    assert not set(python(CODE)["codes"]) & set(python(other)["codes"])


@pytest.mark.parametrize(
    "killed_at",
    [
        "import aiida.manage.configuration as c; c.create_default_user = lambda *a, **k: os._exit(9)",
        "from aiida.storage.sqlite_dos.backend import SqliteDosStorage as S; made = S.initialise\n"
        "S.initialise = classmethod(lambda cls, *a, **k: (made(*a, **k), os._exit(9)))",
        "profile.sqlite3.connect = lambda *a: os._exit(9)",
    ],
    ids=["no user yet", "not in the configuration yet", "without options yet"],
)
def test_a_first_start_that_was_killed_does_not_lock_anyone_out(python, tmp_path, killed_at):
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
    code = f"import os\nfrom aiida_aceal.cli import profile\n{killed_at}\nprofile.load(None, create=True)"
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 9
    first = python(CODE)
    assert first["profile"] == "aceal-demo"
    assert first == python(CODE)
    aside = [path.name for path in (tmp_path / ".aiida" / "repository").iterdir() if "unfinished" in path.name]
    assert len(aside) == 1


def test_two_first_starts_at_once(tmp_path):
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CODE], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    found = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], found
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in found)
    assert first == second
