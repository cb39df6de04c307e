"""The runner: gives tasks to an engine and records every planned cell as a row.

A cell is written by whoever does it, or recorded here with the reason why not. Runners that share a directory share
the work: each task needs a lease, and what another one finished is not done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from backends import Unsupported
from harness.errors import OutputError
from harness.execution.engines import Engine
from harness.execution.task import CellDone, CellPaused, Ended, Event, Phase, Progress, Task, Unwritable
from harness.experiment.cell import Cell, CellStatus
from harness.records.layout import CellRecord
from harness.records.leases import Leases
from harness.records.recording import RunDirectory

_PATIENCE = 5.0
"""Seconds after Ctrl-C in which batches that are nearly done may be finished."""


class Observer(Protocol):
    """Who is told how the run goes."""

    def started(self, task: Task) -> None:
        """It is being done."""

    def entered(self, task: Task, phase: Phase) -> None:
        """It does something else from now on."""

    def progressed(self, task: Task, progress: Progress) -> None:
        """It transcribed more utterances."""

    def passed_over(self, utterances: int) -> None:
        """So many were transcribed by other runners."""

    def tick(self) -> None:
        """About a second went by, whether or not anything happened."""

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """All cells of a task are recorded."""


@dataclass
class _Open:
    """A task that is being done, as it was planned, and the cells that are left of it."""

    planned: Task
    began: float
    cells: dict[str, Cell]


@dataclass
class Runner:
    """One call of the grid.

    Attributes:
        directory: where cells are kept.
        leases: entered.
        engine: entered.
        observer: told of everything.
        before: by cell id, the stamp of what was there when the plan was made, or `None`; see `StoredRun.stamp`.
        paused: by cell id, those that were left for later.
    """

    directory: RunDirectory
    leases: Leases
    engine: Engine
    observer: Observer
    before: Mapping[str, int | None]
    paused: dict[str, CellPaused] = field(default_factory=dict)
    _open: dict[str, _Open] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks, or see them done by others; an engine that cannot begin early has them after their baselines.

        After Ctrl-C nothing new is begun, batches that are finished within seconds are kept, and
        `KeyboardInterrupt` is raised.

        Raises:
            OutputError: results cannot be written.
        """
        waiting = list(self._possible(tasks))
        try:
            while waiting or self.engine.busy():
                while self.engine.has_room() and (task := self._next(waiting)):
                    self._begin(task)
                for task, event in self.engine.events(1.0):
                    self._take(task, event)
                self.observer.tick()
        except KeyboardInterrupt:
            self._wind_down()
            raise

    def _possible(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Record what a capability answer rules out, and pass on the rest."""
        for task in tasks:
            answer = task.configuration.capability
            if isinstance(answer, Unsupported):
                self._record(task, task.cells, CellStatus.UNSUPPORTED, answer.reason)
                self.observer.ended(task, CellStatus.UNSUPPORTED, answer.reason, 0.0)
            else:
                yield task

    def _next(self, waiting: list[Task]) -> Task | None:
        """Take the first task that has nothing to wait for and is nobody else's; pass over what others finished."""
        undone = {cell.cell_id for task in waiting for cell in task.cells}
        undone |= {cell_id for opened in self._open.values() for cell_id in opened.cells}
        for task in list(waiting):
            missing = self._missing(task)
            ready = self.engine.begins_early or undone.isdisjoint(task.baselines.values())
            if missing and not (ready and self.leases.acquire(task.lease)):
                continue
            waiting.remove(task)
            if self._missing(task):  # another runner may have had the lease before
                return task
            self.leases.release(task.lease)
            self._pass_over(task, task.cells)
            self.observer.ended(task, CellStatus.DONE, "by another runner", 0.0)
        return None

    def _missing(self, task: Task) -> tuple[Cell, ...]:
        """The cells that nobody finished since the plan was made."""
        return tuple(c for c in task.cells if self.directory.stamp(c.cell_id) == self.before[c.cell_id])

    def _begin(self, task: Task) -> None:
        missing = self._missing(task)
        self._open[task.lease] = _Open(task, time.monotonic(), {cell.cell_id: cell for cell in missing})
        self._pass_over(task, [cell for cell in task.cells if cell not in missing])
        begun = replace(task, cells=missing, alone=task.alone and not self.leases.others())
        self.engine.submit(begun)
        self.observer.started(begun)

    def _pass_over(self, task: Task, cells: Sequence[Cell]) -> None:
        """Count what others transcribed."""
        self.observer.passed_over(sum(map(task.utterances, cells)))

    def _take(self, task: Task, event: Event) -> None:
        if isinstance(event, Progress):
            self.observer.progressed(task, event)
        elif isinstance(event, Phase):
            self.observer.entered(task, event)
        elif isinstance(event, CellDone | CellPaused):
            self._open[task.lease].cells.pop(event.cell_id)
            if isinstance(event, CellPaused):
                self.paused[event.cell_id] = event
        elif isinstance(event, Unwritable):
            raise OutputError(event.reason)
        else:
            self._end(task, event)

    def _end(self, task: Task, end: Ended) -> None:
        """Record the cells that were left open, and tell how the configuration ended."""
        opened = self._open.pop(task.lease)
        left = [c for c in opened.cells.values() if self.directory.finished(c.cell_id, CellStatus.DONE) is None]
        status, reason = (end.status, end.reason) if left else (CellStatus.DONE, "")
        self._record(task, left, status, reason)
        self.leases.release(task.lease)
        self.observer.ended(opened.planned, status, reason, time.monotonic() - opened.began)

    def _record(self, task: Task, cells: Sequence[Cell], status: CellStatus, reason: str) -> None:
        first_line, _, rest = reason.partition("\n")
        for cell in cells:
            self.directory.write(CellRecord(cell.cell_id, cell.about(status, first_line), log=rest))

    def _wind_down(self) -> None:
        """Let the workers end after their present batches; who takes longer is ended with the engine."""
        self.engine.stop()
        until = time.monotonic() + _PATIENCE
        while self.engine.busy() and time.monotonic() < until:
            for task, event in self.engine.events(0.2):
                if isinstance(event, Progress | CellDone | CellPaused):
                    self._take(task, event)
