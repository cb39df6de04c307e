"""Engines: where tasks are done; one contract, one implementation in each file."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from harness.execution.task import Event, Task


class Engine(Protocol):
    """Does tasks; to be entered before the first one, and over when it is left: nothing of it lives on.

    Attributes:
        begins_early: whether tasks may begin while their baselines are being decoded, and wait for them where they do.
    """

    begins_early: bool

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def describe(self) -> str:
        """For people: where tasks are done, and how many at a time."""
        ...

    def has_room(self) -> bool:
        """Whether one more task is wanted: it would begin at once, or soon."""
        ...

    def submit(self, task: Task) -> None:
        """Begin a task."""
        ...

    def events(self, seconds: float) -> Sequence[tuple[Task, Event]]:
        """What happened since, in order; waits for something at most so long.

        The last event of every task is `Ended`, whatever became of whoever did it; after `stop` there may be none.
        """
        ...

    def stop(self) -> None:
        """Ask for an end: what is being done ends after its present batch, which is kept."""
        ...

    def busy(self) -> bool:
        """Whether any task is being done."""
        ...
