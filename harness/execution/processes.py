"""Worker processes: a fork server with torch in memory, and children that report on a pipe."""

from __future__ import annotations

import ctypes
import multiprocessing.forkserver
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.execution.task import Ended
from harness.experiment.cell import CellStatus
from harness.records.scratch import scratch_directory


@dataclass(frozen=True)
class Child:
    """A running child and the end of the pipe on which it reports."""

    process: Any
    channel: Connection

    def ended(self) -> Ended:
        """Wait for the child, ending it where it does not end itself; why it did, when it sent no reason."""
        self.process.join(timeout=10)
        hung = self.process.is_alive()
        if hung:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL and not hung:
            return Ended(CellStatus.OUT_OF_MEMORY, "the worker was killed, most likely for want of memory")
        what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return Ended(CellStatus.FAILED, f"the worker ended with {what} and no message")

    def events(self, stall_timeout: float, silence: str) -> tuple[list[Any], Ended]:
        """All that the child sent, and how it ended; it is over then, also after Ctrl-C.

        Args:
            stall_timeout: seconds without a word after which it is ended.
            silence: what is missing then, for the reason, such as `no measure`.
        """
        try:
            return self._conversation(stall_timeout, silence)
        except BaseException:  # Ctrl-C
            self.process.kill()
            raise

    def _conversation(self, stall_timeout: float, silence: str) -> tuple[list[Any], Ended]:
        events: list[Any] = []
        while self.channel.poll(stall_timeout):
            try:
                event = self.channel.recv()
            except (EOFError, ConnectionError):
                return events, self.ended()
            if isinstance(event, Ended):
                self.ended()
                return events, event
            events.append(event)
        self.process.kill()
        self.ended()
        return events, Ended(CellStatus.TIMED_OUT, f"{silence} in {stall_timeout:g} s (run.stall_timeout)")


@contextmanager
def fork_server(threads: int) -> Iterator[Any]:
    """The multiprocessing context from which children are started, in the environment that they inherit."""
    scratch = scratch_directory()
    with environment({**worker_environment(threads), "TMPDIR": str(scratch)}):
        context = multiprocessing.get_context("forkserver")
        _put_sockets_into(scratch)
        _end_server_before_scratch()
        context.set_forkserver_preload(["harness.execution.forkserver"])
        yield context


def worker_environment(threads: int) -> dict[str, str]:
    """What a process that computes has in its environment: so many threads, and modules where this process has them."""
    path = os.pathsep.join(filter(None, sys.path))
    return {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, **_ENVIRONMENT}


def start(context: Any, entry: Callable[[Any, Connection], None], task: Any) -> Child:
    """Start a child that calls `entry(task, channel)`; it is ended with this process."""
    from_child, to_parent = context.Pipe(duplex=False)
    process = context.Process(target=entry, args=(task, to_parent), daemon=True)
    process.start()
    to_parent.close()
    return Child(process, from_child)


def kill_with_parent() -> None:
    """Have Linux's kernel kill this process when the one that started it ends; nothing elsewhere."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def die_with_parent() -> None:
    """End this process when the fork server ends, or the runner, also by a signal."""
    kill_with_parent()
    threading.Thread(target=_die_after_runner, daemon=True).start()


def _die_after_runner() -> None:
    runner = multiprocessing.parent_process()
    if runner is not None:
        runner.join()
        os.kill(os.getpid(), signal.SIGKILL)


_HELD_MEMORY = str(2**40)
_ENVIRONMENT = {
    # Spinning threads on busy cores cost a factor of ten.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    # glibc: freed activations are kept for the next layer; to map fresh pages for each costs a quarter of the time.
    "MALLOC_MMAP_THRESHOLD_": _HELD_MEMORY,
    "MALLOC_TRIM_THRESHOLD_": _HELD_MEMORY,
}


@cache
def _end_server_before_scratch() -> None:
    multiprocessing.util.Finalize(None, _kill_server, exitpriority=-150)


def _kill_server() -> None:
    """When this process ends: a server that still loads torch would write into the scratch directory after its end."""
    pid = getattr(multiprocessing.forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _put_sockets_into(scratch: Path) -> None:
    """Let multiprocessing make its directory there, which it makes once in a process."""
    before = tempfile.tempdir
    tempfile.tempdir = str(scratch)
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set what the fork server and its children inherit, which cannot be changed in a running process."""
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
