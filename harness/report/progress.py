"""How a run goes, live in a terminal, or in plain lines elsewhere: what is running, how far it is, what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness._printing import printable
from harness.execution.task import Phase, Task
from harness.execution.task import Progress as Transcribed
from harness.experiment.cell import CellStatus
from harness.report.numbers import duration

_EVERY = 55.0
"""Seconds after which plain lines say again how far everything is: once a minute, looked at once a second."""


@dataclass
class _Running:
    """A task that is being done.

    Attributes:
        task: what of it was begun.
        since: when its present phase began.
        phase: what it does.
        done: utterances of this phase.
        earlier: utterances of the phases before.
        transcribing: when it began to transcribe.
        fresh: utterances since then, without those that an earlier run had transcribed.
    """

    task: Task
    since: float
    phase: Phase = field(default_factory=lambda: Phase("starting"))
    done: int = 0
    earlier: int = 0
    transcribing: float | None = None
    fresh: int = 0

    @property
    def utterances(self) -> int:
        """Of all its cells."""
        return sum(map(self.task.utterances, self.task.cells))

    @property
    def left(self) -> int:
        """Utterances that are still to be transcribed."""
        return self.utterances - self.earlier - self.done

    def enter(self, phase: Phase, now: float) -> None:
        """Do something else from now on."""
        self.earlier, self.done = self.earlier + self.done, 0
        self.phase, self.since = phase, now
        if phase.utterances and self.transcribing is None:
            self.transcribing = now

    def describe(self, now: float) -> str:
        """How far it is."""
        if not self.phase.utterances:
            return f"{self.phase.what} for {duration(now - self.since)}"
        whole = f", {self.earlier + self.done} of {self.utterances} in all" if len(self.task.cells) > 1 else ""
        pace = None if self.transcribing is None else _pace(now - self.transcribing, self.fresh)
        left = "" if pace is None else f", about {duration(pace * self.left)} left"
        return f"{self.phase.what} {self.done} of {self.phase.utterances} utterances{whole}{left}"


def _pace(seconds: float, utterances: int) -> float | None:
    """Seconds an utterance; `None` as long as there is none."""
    return seconds / utterances if utterances > 0 else None


class _Overview:
    """Where a run stands; an `Observer` of the runner's, which shows nothing yet.

    Args:
        cells: to be done.
        utterances: of those that can be done.
        clock: seconds that never go back.
    """

    def __init__(self, cells: int, utterances: int, clock: Callable[[], float]) -> None:
        self._clock, self._began = clock, clock()
        self._cells, self._cells_done = cells, 0
        self._utterances, self._transcribed, self._fresh = utterances, 0, 0
        self._running: dict[str, _Running] = {}

    def started(self, task: Task) -> None:
        """It is among the running ones."""
        self._running[task.lease] = _Running(task, self._clock())

    def entered(self, task: Task, phase: Phase) -> None:
        """It does something else."""
        self._running[task.lease].enter(phase, self._clock())

    def progressed(self, task: Task, progress: Transcribed) -> None:
        """Count them; those that were kept from before say nothing of the pace."""
        running, fresh = self._running[task.lease], 0 if progress.kept else progress.utterances
        running.done += progress.utterances
        running.fresh += fresh
        self._transcribed += progress.utterances
        self._fresh += fresh

    def passed_over(self, utterances: int) -> None:
        """Count them, without a pace."""
        self._transcribed += utterances

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """Take it off, with what will not be transcribed any more."""
        running = self._running.pop(task.lease, None)
        if running is not None:
            self._utterances -= running.left
        self._cells_done += len(task.cells)

    def tick(self) -> None:
        """Nothing to show."""

    def _left(self) -> str:
        """How long the rest takes if it goes on as it did since the beginning, quantizing and waiting included."""
        pace = _pace(self._clock() - self._began, self._fresh)
        return "" if pace is None else f"about {duration(pace * (self._utterances - self._transcribed))} left"


class LiveProgress(_Overview):
    """A bar over all utterances to be transcribed, and what is running now."""

    def __init__(
        self, progress: Progress, cells: int, utterances: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(cells, utterances, clock)
        self._progress = progress
        self._bar = progress.add_task("starting", total=utterances, left="")

    def started(self, task: Task) -> None:
        """Show it among the running ones."""
        super().started(task)
        self.tick()

    def progressed(self, task: Task, progress: Transcribed) -> None:
        """Move the bar."""
        super().progressed(task, progress)
        self.tick()

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """Take it off; leave a line where it did not end well."""
        super().ended(task, status, reason, seconds)
        if status is not CellStatus.DONE:
            self._progress.console.print(_line(task, status, reason, seconds), markup=False)
        self.tick()

    def tick(self) -> None:
        """Show how things are."""
        first = next(iter(self._running.values()), None)
        current = "waiting" if first is None else f"{first.task.configuration.label}, {first.phase.what}"
        more = f" (+{len(self._running) - 1})" if len(self._running) > 1 else ""
        self._progress.update(
            self._bar,
            description=f"cells {self._cells_done}/{self._cells}  {current}{more}",
            completed=self._transcribed,
            total=self._utterances,
            left=self._left(),
        )


class PlainProgress(_Overview):
    """A line for every task that ends, and once a minute where each running one and the whole stand."""

    def __init__(
        self, console: Console, cells: int, utterances: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(cells, utterances, clock)
        self._console, self._told = console, self._began

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """Write the line."""
        super().ended(task, status, reason, seconds)
        self._print(_line(task, status, reason, seconds))

    def tick(self) -> None:
        """Write how far everything is, where nobody was told for a minute."""
        now = self._clock()
        if now - self._told < _EVERY:
            return
        self._told = now
        whole = [f"{self._transcribed} of {self._utterances} utterances", self._left()]
        self._print(", ".join(filter(None, whole)))
        for running in self._running.values():
            self._print(f"{running.task.configuration.label}: {running.describe(now)}")

    def _print(self, text: str) -> None:
        line = f"[{self._cells_done}/{self._cells}] {self._clock() - self._began:5.0f} s  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _line(task: Task, status: CellStatus, reason: str, seconds: float) -> str:
    what = f"{task.label}: {status}"
    first_line = printable(reason.partition("\n")[0])
    if status is CellStatus.DONE:
        return f"{what} {first_line}" if first_line else f"{what} in {seconds:.0f} s"
    return f"{what}: {first_line}"


@contextmanager
def observing(console: Console, cells: int, utterances: int) -> Iterator[LiveProgress | PlainProgress]:
    """The observer that fits the console."""
    if not console.is_terminal:
        yield PlainProgress(console, cells, utterances)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveProgress(progress, cells, utterances)
