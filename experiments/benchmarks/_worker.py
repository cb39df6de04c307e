"""Measure where a grid's workers compute: in a child of the fork server, with its environment and one thread."""

from __future__ import annotations

from collections.abc import Callable

from harness.execution.processes import fork_server


def in_worker(measure: Callable[[], None]) -> None:
    """Call `measure`, a function of a module, in such a process; what it prints is printed here."""
    with fork_server(threads=1) as context:
        child = context.Process(target=measure)
        child.start()
        child.join()
    if child.exitcode:
        raise SystemExit(child.exitcode)
