"""Tasks in processes of this machine, from a fork server that has torch loaded; a crash costs one task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, get_args

from harness.execution.processes import Child, fork_server, start
from harness.execution.task import Ended, Event, Task
from harness.experiment.cell import CellStatus


@dataclass
class _Worker:
    task: Task
    child: Child
    last_event: float
    end: Ended | None = None
    silent: bool = False


class LocalEngine:
    """See `Engine`.

    Args:
        workers: processes at a time.
        threads: that most tasks use, for the fork server's environment.
        stall_timeout: seconds without an event after which a worker is ended.
    """

    begins_early = True

    def __init__(self, workers: int, threads: int, stall_timeout: float) -> None:
        self._workers, self._threads, self._stall_timeout = workers, threads, stall_timeout
        self._running: list[_Worker] = []
        self._open = ExitStack()
        self._context: Any = None
        self._stopping = False

    def __enter__(self) -> LocalEngine:
        self._context = self._open.enter_context(fork_server(self._threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._running:
            worker.child.process.kill()
        self._open.close()

    def describe(self) -> str:
        """How many processes."""
        return f"{self._workers} at a time"

    def has_room(self) -> bool:
        """Whether a process is free."""
        return len(self._running) < self._workers

    def busy(self) -> bool:
        """Whether any process works."""
        return bool(self._running)

    def submit(self, task: Task) -> None:
        """Start a process."""
        self._running.append(_Worker(task, start(self._context, _enter_worker, task), time.monotonic()))

    def stop(self) -> None:
        """Tell all processes."""
        self._stopping = True
        for worker in self._running:
            with suppress(AttributeError, OSError):  # it has just ended
                worker.child.process.terminate()

    def events(self, seconds: float) -> Sequence[tuple[Task, Event]]:
        """What the processes sent, and how those ended that have."""
        found = self._heard(seconds)
        for worker in [w for w in self._running if self._is_over(w)]:
            self._running.remove(worker)
            unannounced = worker.child.ended()
            if not (self._stopping and worker.end is None):
                found.append((worker.task, worker.end or unannounced))
        return found

    def _heard(self, seconds: float) -> list[tuple[Task, Event]]:
        """One event of every worker that has one; a worker whose pipe ended has none left."""
        if not self._running:
            time.sleep(seconds)
            return []
        found: list[tuple[Task, Event]] = []
        ready = connection.wait(
            [worker.child.channel for worker in self._running if not worker.silent], timeout=seconds
        )
        for worker in [w for w in self._running if w.child.channel in ready]:
            event = _received(worker)
            if isinstance(event, Ended):
                worker.end = event
            elif event is not None:
                found.append((worker.task, event))
        return found

    def _is_over(self, worker: _Worker) -> bool:
        """Whether a worker has ended and its events were read; one that was silent for too long is ended here."""
        if worker.silent:
            return True
        if time.monotonic() - worker.last_event <= self._stall_timeout:
            return False
        worker.child.process.kill()
        reason = f"no batch was finished for {self._stall_timeout:g} s (run.stall_timeout)"
        worker.end = Ended(CellStatus.TIMED_OUT, reason)
        return True


def _received(worker: _Worker) -> Event | None:
    """The worker's next event; a worker that sends anything else is ended, since its pipe is broken."""
    try:
        event = worker.child.channel.recv()
        if not isinstance(event, get_args(Event)):
            raise TypeError(f"{type(event).__name__} is not an event")
    except (EOFError, ConnectionError):
        worker.silent = True
        return None
    except Exception as error:
        worker.child.process.kill()
        worker.silent = True
        return Ended(CellStatus.FAILED, f"the worker sent something that is no event: {error}")
    worker.last_event = time.monotonic()
    return event  # type: ignore[no-any-return]


def _enter_worker(task: Task, channel: Connection) -> None:
    from harness.execution import worker

    worker.main(task, channel)
