"""Locks on a run directory, as far as its file system knows any."""

from __future__ import annotations

import fcntl
import time

_PAUSES = (0.0, *[0.1] * 50)
"""Seconds between looks at a directory that another runner is tidying up."""


def lock_soon(file: int, kind: int) -> bool:
    """Whether a lock could be had within some seconds; where the file system knows none, one goes on without."""
    return any(lock(file, kind, pause, without=True) for pause in _PAUSES)


def lock(file: int, kind: int, pause: float = 0.0, *, without: bool = False) -> bool:
    """Whether a lock could be had after a pause; `without` where the file system knows none."""
    time.sleep(pause)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    return True
