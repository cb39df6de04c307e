"""Leases: of several runners that share a run directory, one at a time does a configuration.

Nothing but files is needed, so that runners may be on several machines. A lease is a file that is linked into place,
which succeeds for one runner only, on network file systems too (open with O_EXCL does not, on old ones). It names its
owner; every owner has a file whose time it renews. A lease is free again when its owner is dead:

- on the owner's own machine at once: an owner locks its file, and the kernel takes the lock from the dead;
- elsewhere when the owner's file has not changed for `timeout` seconds. The watching runner counts these on its own
  steady clock, so that clocks that differ or jump do no harm.

The limit: a runner that was stopped for longer than `timeout`, and then goes on, does its present configurations beside
whoever took them over. Both write the same cells, and the first one's are kept. `timeout` must be longer than the time
for which a network file system may show old attributes (NFS: `acregmax`, 60 s).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO
from uuid import uuid4

from harness.records.files import temporary_beside, writing

_OWNER = ".owner"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Leases:
    """The leases of one runner; to be entered before any is taken. On leaving, all are given back.

    Args:
        directory: shared by the runners of a run; made here.
        timeout: seconds after which an owner on another machine that gave no sign of life counts as dead.

    Raises:
        OutputError: the directory cannot be written.
    """

    def __init__(self, directory: Path, timeout: float) -> None:
        self._directory, self._timeout = directory, timeout
        self._owner = directory / f"{uuid4().hex[:12]}{_OWNER}"
        self._held: set[Path] = set()
        self._seen: dict[str, tuple[int, float]] = {}
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._locked: IO[str]

    def __enter__(self) -> Leases:
        with writing(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(self._owner)
            self._locked = temporary.open("w")
            self._locked.write(_boot())
            self._locked.flush()
            with suppress(OSError):  # without locks, only time tells who is dead
                fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.rename(self._owner)
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heart.join()
        with suppress(OSError):  # what cannot be removed is a dead owner's, from now on
            for lease in self._held:
                lease.unlink(missing_ok=True)
            self._owner.unlink(missing_ok=True)
            self._sweep()
        self._locked.close()

    def acquire(self, name: str) -> bool:
        """Take the lease of that name, letters and digits; whether it is this runner's now.

        Whoever gets one looks first whether the work was done meanwhile.
        """
        leases = self._leases(name)
        if any(self._alive(lease) for lease in leases):
            return False
        own = self._directory / f"{name}.{1 + max((_number(lease) for lease in leases), default=0)}"
        if not self._link(own):
            return False
        self._held.add(own)
        if any(self._alive(lease) for lease in self._leases(name) if lease != own):
            self._give_back(own)  # two runners looked at the same moment; both will try again
            return False
        return True

    def release(self, name: str) -> None:
        """Give a lease back, with what dead owners left of the name."""
        for lease in self._leases(name):
            if lease in self._held or not self._alive(lease):
                self._give_back(lease)

    def others(self) -> bool:
        """Whether another runner is at work in this run."""
        owners = (owner for owner in self._directory.glob(f"*{_OWNER}") if owner != self._owner)
        alive = [self._lives(owner) for owner in owners]  # all are looked at, so that those elsewhere can be timed
        return any(alive)

    def _give_back(self, lease: Path) -> None:
        self._held.discard(lease)
        lease.unlink(missing_ok=True)

    def _leases(self, name: str) -> list[Path]:
        return list(self._directory.glob(f"{name}.[0-9]*"))

    def _link(self, lease: Path) -> bool:
        temporary = temporary_beside(lease)
        try:
            with writing(lease):
                temporary.write_text(self._owner.name, encoding="utf-8")
                os.link(temporary, lease)
        except Exception as error:
            if isinstance(error.__cause__, FileExistsError):
                return False
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _alive(self, lease: Path) -> bool:
        """Whether a lease has a living owner; one that was given back meanwhile has none."""
        try:
            owner = lease.with_name(Path(lease.read_text(encoding="utf-8")).name)
        except (OSError, ValueError):  # given back; or broken, so that it is nobody's
            return False
        return owner == self._owner or self._lives(owner)

    def _lives(self, owner: Path) -> bool:
        try:
            if _is_dead_here(owner):
                return False
            changed = owner.stat().st_mtime_ns
        except (OSError, ValueError):
            return False
        before, since = self._seen.get(owner.name, (None, 0.0))
        if changed != before:
            self._seen[owner.name] = (changed, time.monotonic())
            return True
        return time.monotonic() - since < self._timeout

    def _beat(self) -> None:
        """Show that this runner lives, and watch the others. The time written is not compared; it has to change."""
        while not self._stop.wait(self._timeout / 6):
            with suppress(OSError):
                os.utime(self._owner)
                self.others()

    def _sweep(self) -> None:
        """Remove what dead owners left."""
        for owner in self._directory.glob(f"*{_OWNER}"):
            if not self._lives(owner):
                owner.unlink(missing_ok=True)
        for lease in self._directory.glob("*.[0-9]*"):
            if not self._alive(lease):
                lease.unlink(missing_ok=True)


def elsewhere(directory: Path) -> bool:
    """Whether a runner of another machine has been at work there, and may be still."""
    return any(_boot_of(owner) not in (_boot(), None) for owner in directory.glob(f"*{_OWNER}"))


def is_held(directory: Path, name: str) -> bool:
    """Whether somebody has the lease of that name; an owner of another machine counts as alive."""
    return any(_is_owned(lease) for lease in directory.glob(f"{name}.[0-9]*"))


def _is_owned(lease: Path) -> bool:
    try:
        owner = lease.with_name(Path(lease.read_text(encoding="utf-8")).name)
        return not _is_dead_here(owner)
    except (OSError, ValueError):
        return False


def _is_dead_here(owner: Path) -> bool:
    """Whether an owner was on this machine, and is no more; raises `OSError` where its file is gone."""
    with owner.open("r+") as file:
        return file.read() == _boot() and _locks(file)


def shared(directory: Path) -> bool:
    """Whether more than one runner is at work there, or left its file."""
    return len(list(directory.glob(f"*{_OWNER}"))) > 1


def _boot_of(owner: Path) -> str | None:
    """What the owner runs on; `None` where it is gone meanwhile."""
    try:
        return owner.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _number(lease: Path) -> int:
    return int(lease.suffix[1:])


def _boot() -> str:
    """Names the running kernel, within which locks tell who lives; empty where it has no name."""
    return _BOOT.read_text(encoding="utf-8").strip() if _BOOT.exists() else uuid4().hex


def _locks(file: IO[str]) -> bool:
    """Whether nobody else holds a lock on the file; it is released again when the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
