"""How a run goes, live in a terminal, or in plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.cell import CellStatus
from harness.printing import printable
from harness.task import Task


class LiveProgress:
    """A bar over all utterances to be transcribed, and what is running now."""

    def __init__(self, progress: Progress, cells: int, utterances: int) -> None:
        self._progress = progress
        self._done = 0
        self._cells = cells
        self._running: list[str] = []
        self._bar = progress.add_task("starting", total=utterances)

    def started(self, task: Task) -> None:
        """Show it among the running ones."""
        self._running.append(task.label)
        self._show()

    def progressed(self, utterances: int) -> None:
        """Move the bar."""
        self._progress.advance(self._bar, utterances)

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """Take it off; leave a line where it did not end well."""
        if task.label in self._running:
            self._running.remove(task.label)
        self._done += len(task.cells)
        if status is not CellStatus.DONE:
            self._progress.console.print(_line(task, status, reason, seconds), markup=False)
        self._show()

    def _show(self) -> None:
        current = self._running[0] if self._running else "waiting"
        more = f" (+{len(self._running) - 1})" if len(self._running) > 1 else ""
        self._progress.update(self._bar, description=f"cells {self._done}/{self._cells}  {current}{more}")


class PlainProgress:
    """One line for every task that ends, with the cells done so far."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._done = 0
        self._began = time.monotonic()

    def started(self, task: Task) -> None:
        """Nothing: a line is written when it ends."""

    def progressed(self, utterances: int) -> None:
        """Nothing."""

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """Write the line."""
        self._done += len(task.cells)
        elapsed = time.monotonic() - self._began
        line = f"[{self._done}/{self._cells}] {elapsed:5.0f} s  {_line(task, status, reason, seconds)}"
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
        yield PlainProgress(console, cells)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveProgress(progress, cells, utterances)
