"""Plan, run, record: one worker process per configuration, from a fork server that has torch loaded.

A crash costs one configuration. Every planned cell ends as a row: finished by its worker, or
recorded here with the reason why not.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol

from backends import Unsupported
from harness.cell import Cell, CellStatus, Configuration
from harness.store import CellRecord, RunDirectory
from harness.task import CellDone, Ended, Event, Progress, Task

# The modules behind transformers' and datasets' facades, so that a child starts work at once.
_PRELOADED = [
    "harness.worker",
    "harness.datasets.embedded",
    "harness.datasets.librispeech",
    "transformers.models.whisper.modeling_whisper",
    "transformers.models.whisper.english_normalizer",
    "transformers.models.moonshine.modeling_moonshine",
    "jiwer",
    "pyarrow.parquet",
    "soundfile",
    "soxr",
]


class Observer(Protocol):
    """Who is told how the run goes."""

    def started(self, configuration: Configuration) -> None:
        """A worker began."""

    def progressed(self, utterances: int) -> None:
        """So many more utterances are transcribed."""

    def ended(self, configuration: Configuration, status: CellStatus, reason: str, seconds: float) -> None:
        """All cells of a configuration are recorded."""


@dataclass
class _Worker:
    task: Task
    process: Any
    channel: Connection
    began: float
    heard: float
    open_cells: dict[str, Cell] = field(default_factory=dict)
    end: Ended | None = None
    silent: bool = False


def run(tasks: Sequence[Task], directory: RunDirectory, workers: int, stall_timeout: float, observer: Observer) -> None:
    """Do all tasks, at most `workers` at a time; cells are written to `directory` as they finish.

    After Ctrl-C the children are ended and `KeyboardInterrupt` is raised; finished cells are kept.
    """
    waiting = deque(_refuse_unsupported(tasks, directory, observer))
    running: list[_Worker] = []
    with _fork_server_environment(max((task.threads for task in tasks), default=1)):
        context = get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running.append(_start(waiting.popleft(), context, observer))
                _listen(running, observer)
                for worker in [w for w in running if _is_over(w, stall_timeout)]:
                    running.remove(worker)
                    _record_end(worker, directory, observer)
        finally:
            for worker in running:
                worker.process.kill()


def _refuse_unsupported(tasks: Sequence[Task], directory: RunDirectory, observer: Observer) -> Iterator[Task]:
    """Record what a capability answer rules out, and pass on the rest."""
    for task in tasks:
        answer = task.configuration.capability
        if isinstance(answer, Unsupported):
            _record(task, task.cells, CellStatus.UNSUPPORTED, answer.reason, directory)
            observer.ended(task.configuration, CellStatus.UNSUPPORTED, answer.reason, 0.0)
        else:
            yield task


def _start(task: Task, context: Any, observer: Observer) -> _Worker:
    from_worker, to_runner = context.Pipe(duplex=False)
    process = context.Process(target=_enter_worker, args=(task, to_runner), daemon=True)
    process.start()
    to_runner.close()
    observer.started(task.configuration)
    now = time.monotonic()
    return _Worker(task, process, from_worker, now, now, {cell.cell_id: cell for cell in task.cells})


def _enter_worker(task: Task, channel: Connection) -> None:
    from harness import worker

    worker.main(task, channel)


def _listen(running: list[_Worker], observer: Observer) -> None:
    """Take the events of all workers, waiting a second at most; a worker whose pipe ended has none left."""
    ready = connection.wait([worker.channel for worker in running if not worker.silent], timeout=1.0)
    for worker in [w for w in running if w.channel in ready]:
        try:
            _take(worker.channel.recv(), worker, observer)
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
    worker.process.kill()
    worker.end = Ended(CellStatus.TIMED_OUT, f"no batch was finished for {stall_timeout:g} s (run.stall_timeout)")
    return True


def _record_end(worker: _Worker, directory: RunDirectory, observer: Observer) -> None:
    """Write the cells that a worker left open, and tell how its configuration ended."""
    worker.process.join(timeout=10)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    for cell_id in [c for c in worker.open_cells if directory.finished(c, CellStatus.DONE)]:
        del worker.open_cells[cell_id]  # it was written, and the worker died before it could say so
    end = worker.end or _silent_end(worker)
    if worker.open_cells:
        _record(worker.task, tuple(worker.open_cells.values()), end.status, end.reason, directory)
    status, reason = (end.status, end.reason) if worker.open_cells else (CellStatus.DONE, "")
    observer.ended(worker.task.configuration, status, reason, time.monotonic() - worker.began)


def _silent_end(worker: _Worker) -> Ended:
    code = worker.process.exitcode or 0
    if code == -signal.SIGKILL:
        return Ended(CellStatus.OUT_OF_MEMORY, "the worker was killed, most likely for want of memory")
    what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return Ended(CellStatus.FAILED, f"the worker ended with {what} and no message")


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


@contextmanager
def _fork_server_environment(threads: int) -> Iterator[None]:
    """Set OpenMP's threads and wait policy for the fork server: spinning threads on busy cores cost a factor of ten."""
    wanted = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
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
