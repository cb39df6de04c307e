"""Temporary directories: one a process, and none of a dead one."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from harness.records.scratch import scratch_directory, sweep


@pytest.fixture
def root(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


def left(root, name):
    directory = root / f"asrquant-{os.getuid()}-{name}"
    directory.mkdir()
    (directory / "file").write_text("something")
    lock = Path(f"{directory}.lock")
    lock.touch()
    return directory, lock


def test_what_the_dead_left_goes_and_what_the_living_hold_stays(root):
    dead, living, others = left(root, "dead"), left(root, "living"), root / "asrquant-notes.lock"
    others.touch()
    child, lock = left(root, "child")
    lock.unlink()
    with living[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep()
    assert not any(path.exists() for path in (*dead, child))
    assert all(path.exists() for path in (*living, others))


def test_sockets_have_room_in_a_long_directory(root, monkeypatch):
    long = root / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    directory = scratch_directory.__wrapped__()
    assert directory.parent == Path("/tmp")
    assert not list(long.iterdir())
    directory.rmdir()
    Path(f"{directory}.lock").unlink()
