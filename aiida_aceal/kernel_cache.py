"""Where numba keeps compiled kernels when neither the package's folders nor the user's cache folder can be written.

Numba keeps them beside the sources, else in the user's cache folder; if it can write neither (a container without a
home, say), it refuses to import kernels at all. Cached files are code: they must lie where nobody else writes.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path


def ensure_cache(package: Path) -> None:
    """Set ``NUMBA_CACHE_DIR`` if nothing else works and the user has not set it."""
    if os.environ.get("NUMBA_CACHE_DIR") or _writable(package / "__pycache__") or _writable(_user_cache()):
        return
    folder = str(_private_folder())
    os.environ["NUMBA_CACHE_DIR"] = folder
    if "numba" in sys.modules:  # it has read its environment already
        sys.modules["numba"].config.CACHE_DIR = folder


def _user_cache() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "numba"
    home = Path(os.path.expanduser("~"))
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "numba"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_folder() -> Path:
    """A folder of this user alone; the same one in the next process."""
    user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
    folder = Path(tempfile.gettempdir()) / f"aceal-kernels-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="aceal-kernels-"))
