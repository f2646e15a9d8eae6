"""Every output goes through the one writer, and a full disk ends a command with one line."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import aiida_aceal
from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.uncertainty import build_active_set

PACKAGE = Path(aiida_aceal.__file__).parent
#: write into temporary folders of their own, or run without our package
PRIVATE = {
    "common/atomic.py", "data/ensemble.py", "data/active_set.py", "fitting/pacemaker_data.py", "worker/warm.py",
}  # fmt: skip
SAVERS = {"save", "savez", "savez_compressed", "savetxt", "savefig"}


def direct_writes(source: str) -> list[int]:
    """Lines that open, write or save a file by themselves (AiiDA's sandbox ``folder`` and open handles apart)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if method else ""
        words = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        opens = name == "open" and owner != "folder" and bool({"w", "wb", "a", "ab", "x", "xb", "w+b"} & set(words))
        saves = name in SAVERS and owner in ("np", "figure") and getattr(node.args[0], "id", "") != "handle"
        if opens or saves or (method and name in ("write_text", "write_bytes")):
            found.append(node.lineno)
    return sorted(found)


def test_the_search_finds_what_it_should():
    bad = 'p.write_text("x")\nopen(p, "w")\np.open(mode="ab")\nnp.savez(p, x=x)\nfigure.savefig(p)\n'
    good = 'open(p)\nfolder.open(p, "w")\nnp.savez(handle, x=x)\nwrite_text(p, "x")\np.open("rb")\n'
    assert direct_writes(bad + good) == [1, 2, 3, 4, 5]


def test_nothing_writes_files_by_itself():
    found = []
    for source in sorted(PACKAGE.rglob("*.py")):
        name = source.relative_to(PACKAGE).as_posix()
        if name not in PRIVATE:
            found += [f"{name}:{line}" for line in direct_writes(source.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["active-set", "p.yaml", "a.extxyz", "-o", "new.asi"], "new.asi"),
        (["evaluate", "p.yaml", "a.extxyz", "-o", "new.extxyz"], "new.extxyz"),
        (["grade", "p.yaml", "p.asi", "a.extxyz", "--report", "new.json"], "new.json"),
        (["label", "a.extxyz", "--calculator", "emt", "-o", "new.extxyz"], "new.extxyz"),
    ],
)
def test_a_full_disk_is_one_line(tmp_path, cu_atoms, small_potential, words, name):
    from aiida_aceal.ace import AceModel

    potential = small_potential()
    potential.write(tmp_path / "p.yaml")
    frames = cu_atoms(3)
    write_configurations(tmp_path / "a.extxyz", frames)
    build_active_set(AceModel(potential), frames).save(tmp_path / "p.asi")
    (tmp_path / name).write_text("old")
    script = Path(sys.executable).parent / "aceal-worker"
    run = subprocess.run(
        [str(script), *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)),
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    message = f"{name}: cannot be written (File too large); what stood there before is unchanged"
    if words[0] == "label":  # each label is on the disk before the next one
        message = (
            f"{name}.labels: cannot be written (File too large); the labels in it are safe: run the same command again "
            "when there is room"
        )
    assert run.stderr.splitlines()[-1] == f"Error: {message}"
    assert "Traceback" not in run.stderr
    assert (tmp_path / name).read_text() == "old"
    assert not list(tmp_path.glob(".*"))
