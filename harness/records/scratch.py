"""A temporary directory for a process and its children; it is removed also when the process is killed.

A killed process cannot tidy up: the next one finds the directories whose owners hold no lock any more, and does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from uuid import uuid4

_PREFIX = f"asrquant-{os.getuid()}-"
_LONGEST_ROOT = 42
"""Bytes: Linux allows 107 for the name of a socket, and this module and multiprocessing add up to 65."""


@cache
def scratch_directory() -> Path:
    """A directory of this process alone, below the system's one for temporary files.

    Where that has too long a name for the sockets of worker processes, it is below `/tmp`.
    """
    sweep()
    root = _root()
    lock = next(filter(None, (_locked(root) for _ in range(100))))
    directory = lock.with_suffix("")
    directory.mkdir(mode=0o700)
    Finalize(None, _remove, (directory, lock), exitpriority=-200)  # after multiprocessing's own, of -100
    return directory


def sweep() -> None:
    """Remove what dead processes of this user left, and what their children wrote when they were dead."""
    for lock in _root().glob(f"{_PREFIX}*.lock"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.with_suffix(""), lock)
        except OSError:
            continue  # its owner lives, or another process is sweeping
    for path in _root().glob(f"{_PREFIX}*"):
        if not path.with_suffix(".lock").exists():  # which is there before its directory, and longer
            shutil.rmtree(path, ignore_errors=True)


def _root() -> Path:
    root = Path(tempfile.gettempdir())
    return root if len(os.fsencode(root)) <= _LONGEST_ROOT else Path("/tmp")


def _locked(root: Path) -> Path | None:
    """A new lock file, held by this process; `None` where another process swept it away before it was locked."""
    lock = root / f"{_PREFIX}{uuid4().hex[:12]}.lock"
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)  # open, and locked, for as long as the process lives
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:
            return lock
    except BlockingIOError:
        pass
    except OSError:  # a file system without locks: nothing there is ever swept
        return lock
    os.close(file)
    return None


def _remove(directory: Path, lock: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    lock.unlink(missing_ok=True)
