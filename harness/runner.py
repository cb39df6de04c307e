"""Plan, run, record: one worker process per task, from a fork server that has torch loaded.

A crash costs one task, which is a configuration. Every planned cell ends as a row: finished by its worker, or
recorded here with the reason why not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Protocol

from backends import Unsupported
from harness.cell import Cell, CellStatus
from harness.processes import Child, fork_server, start
from harness.store import CellRecord, RunDirectory
from harness.task import CellDone, Ended, Event, Progress, Task


class Observer(Protocol):
    """Who is told how the run goes."""

    def started(self, task: Task) -> None:
        """A worker began."""

    def progressed(self, utterances: int) -> None:
        """So many more utterances are transcribed."""

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """All cells of a task are recorded."""


@dataclass
class _Worker:
    task: Task
    child: Child
    began: float
    heard: float
    open_cells: dict[str, Cell] = field(default_factory=dict)
    end: Ended | None = None
    silent: bool = False


def run(tasks: Sequence[Task], directory: RunDirectory, workers: int, stall_timeout: float, observer: Observer) -> None:
    """Do all tasks, at most `workers` at a time; cells are written to `directory` as they finish.

    A task waits until the cells are finished whose transcripts are its drafts.

    After Ctrl-C the children are ended and `KeyboardInterrupt` is raised; finished cells are kept.
    """
    waiting = list(_refuse_unsupported(tasks, directory, observer))
    running: list[_Worker] = []
    with fork_server(max((task.threads for task in tasks), default=1)) as context:
        try:
            while waiting or running:
                while len(running) < workers and (task := _ready(waiting, directory)):
                    waiting.remove(task)
                    running.append(_start(task, context, observer))
                _listen(running, observer)
                for worker in [w for w in running if _is_over(w, stall_timeout)]:
                    running.remove(worker)
                    _record_end(worker, directory, observer)
        finally:
            for worker in running:
                worker.child.process.kill()


def _refuse_unsupported(tasks: Sequence[Task], directory: RunDirectory, observer: Observer) -> Iterator[Task]:
    """Record what a capability answer rules out, and pass on the rest."""
    for task in tasks:
        answer = task.configuration.capability
        if isinstance(answer, Unsupported):
            _record(task, task.cells, CellStatus.UNSUPPORTED, answer.reason, directory)
            observer.ended(task, CellStatus.UNSUPPORTED, answer.reason, 0.0)
        else:
            yield task


def _ready(waiting: Sequence[Task], directory: RunDirectory) -> Task | None:
    """The first task with nothing to wait for."""
    return next((task for task in waiting if all(map(directory.finished, task.drafts.values()))), None)


def _start(task: Task, context: Any, observer: Observer) -> _Worker:
    child = start(context, _enter_worker, task)
    observer.started(task)
    now = time.monotonic()
    return _Worker(task, child, now, now, {cell.cell_id: cell for cell in task.cells})


def _enter_worker(task: Task, channel: Connection) -> None:
    from harness import worker

    worker.main(task, channel)


def _listen(running: list[_Worker], observer: Observer) -> None:
    """Take the events of all workers, waiting a second at most; a worker whose pipe ended has none left."""
    ready = connection.wait([worker.child.channel for worker in running if not worker.silent], timeout=1.0)
    for worker in [w for w in running if w.child.channel in ready]:
        try:
            _take(worker.child.channel.recv(), worker, observer)
        except (EOFError, ConnectionError):
            worker.silent = True


def _take(event: Event, worker: _Worker, observer: Observer) -> None:
    worker.heard = time.monotonic()
    if isinstance(event, Progress):
        observer.progressed(event.utterances)
    elif isinstance(event, CellDone):
        worker.open_cells.pop(event.cell_id)
    else:
        worker.end = event


def _is_over(worker: _Worker, stall_timeout: float) -> bool:
    """Whether a worker has ended and was heard out; one that was silent for too long is ended here."""
    if worker.silent:
        return True
    if time.monotonic() - worker.heard <= stall_timeout:
        return False
    worker.child.process.kill()
    worker.end = Ended(CellStatus.TIMED_OUT, f"no batch was finished for {stall_timeout:g} s (run.stall_timeout)")
    return True


def _record_end(worker: _Worker, directory: RunDirectory, observer: Observer) -> None:
    """Write the cells that a worker left open, and tell how its configuration ended."""
    unannounced = worker.child.ended()
    for cell_id in [c for c in worker.open_cells if directory.finished(c, CellStatus.DONE)]:
        del worker.open_cells[cell_id]  # it was written, and the worker died before it could say so
    end = worker.end or unannounced
    if worker.open_cells:
        _record(worker.task, tuple(worker.open_cells.values()), end.status, end.reason, directory)
    status, reason = (end.status, end.reason) if worker.open_cells else (CellStatus.DONE, "")
    observer.ended(worker.task, status, reason, time.monotonic() - worker.began)


def _record(task: Task, cells: Sequence[Cell], status: CellStatus, reason: str, directory: RunDirectory) -> None:
    first_line, _, rest = reason.partition("\n")
    for cell in cells:
        content = {
            "cell_id": cell.cell_id,
            "identity": cell.identity,
            "status": status,
            "reason": first_line,
            "measured": {},
        }
        directory.write(CellRecord(cell.cell_id, content, log=rest))
