"""Files appear whole or not at all, whatever ends the writing."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from aiida_aceal.common.atomic import open_whole, write_bytes, write_json, write_text
from aiida_aceal.common.errors import AceError


def run(code: str, folder, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first é\n")
    assert path.read_text(encoding="utf-8") == "first é\n"
    path.chmod(0o640)
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    write_json(tmp_path / "b.json", {"x": [1.5]})
    assert json.loads((tmp_path / "b.json").read_text()) == {"x": [1.5]}
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "b.json").stat().st_mode) == 0o666 & ~mask
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.json"]


def test_not_seen_before_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    with open_whole(path) as handle:
        handle.write("half")
        handle.flush()
        assert not path.exists()
    assert path.read_text() == "half"


def test_error_in_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), open_whole(path) as handle:
        handle.write("new" + {}["bad"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_what_the_block_reads_keeps_its_error(tmp_path):
    with pytest.raises(FileNotFoundError), open_whole(tmp_path / "a.txt") as handle:
        handle.write((tmp_path / "missing").read_text())
    assert list(tmp_path.iterdir()) == []


def test_symbolic_links_are_replaced_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    link = tmp_path / "a.txt"
    link.symlink_to(target)
    write_text(link, "new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    write_text(tmp_path / "dangling", "new")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/a.txt", r"missing/a\.txt: cannot be written \(No such file or directory\)"),
        ("folder", "folder: is a folder"),
        ("null", "null: is a device"),
        ("pipe", "pipe: is a device or pipe"),
        ("x" * 300, "File name too long"),
    ],
)
def test_places_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AceError, match=message):
        write_text(tmp_path / name, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "null", "pipe"]


FULL_DISK = """
    import resource, signal, sys
    from aiida_aceal.common.atomic import *
    from aiida_aceal.common.errors import AceError
    import numpy as np

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        if sys.argv[1] == "text":
            write_text("a", "x" * 200_000)
        elif sys.argv[1] == "bytes":
            write_bytes("a", bytes(200_000))
        elif sys.argv[1] == "npz":
            with open_whole("a", "wb") as handle:
                np.savez(handle, x=np.random.default_rng(0).random(50_000))
        else:
            with open_whole("a") as handle:
                for k in range(100_000):
                    handle.write("many small lines\\n")
    except AceError as error:
        print(error)
"""


@pytest.mark.parametrize("kind", ["text", "bytes", "npz", "lines"])
def test_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, kind):
    (tmp_path / "a").write_text("old")
    result = run(FULL_DISK, tmp_path, kind)
    assert result.stdout == "a: cannot be written (File too large); what stood there before is unchanged\n"
    assert result.stderr == ""
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_kill_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")
    result = run(
        """
        import os, signal
        from aiida_aceal.common.atomic import open_whole

        with open_whole("a") as handle:
            handle.write("x" * 10**6)
            handle.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert result.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "old"


def test_arrays_are_complete(tmp_path):
    values = np.random.default_rng(0).random((50, 3))
    with open_whole(tmp_path / "a.npz", "wb") as handle:
        np.savez_compressed(handle, values=values)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        assert np.array_equal(data["values"], values)
