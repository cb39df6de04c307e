"""Leases between runners: one owner at a time, the dead found out, on this machine at once and elsewhere in time."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest

from harness.errors import OutputError
from harness.records import leases
from harness.records.leases import Leases, elsewhere

_HOLD = """
import sys, time
from pathlib import Path
from harness.records.leases import Leases
with Leases(Path(sys.argv[1]), 60) as own:
    print(own.acquire("work"), flush=True)
    time.sleep(60)
"""


def hold(directory):
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def test_a_lease_is_one_runners(tmp_path):
    with Leases(tmp_path, 60) as a, Leases(tmp_path, 60) as b:
        assert a.acquire("work")
        assert not b.acquire("work")
        assert b.acquire("other")
        a.release("work")
        assert b.acquire("work")
        assert a.others()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owners_lease_is_free_at_once(tmp_path):
    process = hold(tmp_path)
    with Leases(tmp_path, 3600) as own:
        assert not own.acquire("work")
        assert own.others()
        process.kill()
        process.wait()
        process.stdout.close()
        assert not own.others()
        assert own.acquire("work")
        own.release("work")
        assert not list(tmp_path.glob("work.*"))


def test_a_stopped_owner_on_this_machine_keeps_its_lease(tmp_path):
    process = hold(tmp_path)
    process.send_signal(signal.SIGSTOP)
    with Leases(tmp_path, 0.2) as own:
        assert not own.acquire("work")
        assert not own.acquire("work")
        process.kill()
        process.wait()
        process.stdout.close()
        assert own.acquire("work")


def test_a_dead_owner_elsewhere_that_holds_nothing_is_removed(tmp_path):
    owner = tmp_path / "abc.owner"
    owner.write_text("another boot")
    with Leases(tmp_path, 0.3):
        time.sleep(1)
    assert not owner.exists()
    assert not elsewhere(tmp_path)


def test_an_owner_that_vanishes_is_nowhere(tmp_path):
    (tmp_path / "abc.owner").symlink_to("nothing")
    assert not elsewhere(tmp_path)


@pytest.fixture
def far(tmp_path):
    """The leases of a runner on another machine, which holds one."""
    with mock.patch.object(leases, "_boot", return_value="another kernel"):
        own = Leases(tmp_path, 0.6)
        own.__enter__()
    assert own.acquire("work")
    yield own
    own.__exit__(None, None, None)


def test_an_owner_elsewhere_is_dead_when_it_gives_no_sign(far, tmp_path):
    with Leases(tmp_path, 0.6) as own:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert not own.acquire("work"), "its heart beats"
        assert elsewhere(tmp_path)
        far._stop.set()
        far._heart.join()
        time.sleep(0.7)
        assert not own.others() or time.sleep(0.7) is None
        assert own.acquire("work")


def test_clocks_that_jump_do_no_harm(far, tmp_path):
    with Leases(tmp_path, 0.6) as own:
        for jump in (-1e9, 1e9, -1e8):
            os.utime(far._owner, (time.time() + jump,) * 2)
            assert not own.acquire("work")


def test_broken_lease_files_are_nobodys(tmp_path):
    with Leases(tmp_path, 60) as own:
        for number, content in enumerate((b"", b"\xff\xfe\x00", b"../../etc/passwd", b"nobody.owner")):
            (tmp_path / f"work{number}.1").write_bytes(content)
            assert own.acquire(f"work{number}")


def _race(directory, barrier, counts):
    with Leases(directory, 60) as own:
        for number in range(40):
            barrier.wait()
            if own.acquire(f"work{number}"):
                counts[number] += 1
            barrier.wait()


def test_never_two_owners_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(4), context.Array("i", 40)
    processes = [context.Process(target=_race, args=(tmp_path, barrier, counts)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert max(counts) == 1


def test_where_nothing_can_be_written_it_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Leases(tmp_path / "file", 60).__enter__()
