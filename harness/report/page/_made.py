"""How one row came about: the command that repeats it, and the versions, machine and day of its numbers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backends import available
from backends.core.quantize import versions
from harness.embedded import EXPERIMENT
from harness.report.page._run import PageRun, Row

_REPEATED = ("--set", "--limit")
"""Options of the recorded command that decide what is measured; others say where it goes and who works on it."""


class Made(NamedTuple):
    """How one row came about.

    Attributes:
        command: that repeats it, beside full precision; empty where it was not started from a file.
        facts: versions, machine and day.
    """

    command: str
    facts: str


def made(run: PageRun, row: Row) -> Made | None:
    """How a finished row came about; `None` where that was not recorded."""
    environment = run.stored.environment(row["cell_id"]) if row["status"] == "done" else {}
    if not environment.get("finished"):
        return None
    return Made(
        command_of(environment.get("command") or "", row["configuration_id"]), ", ".join(_facts(row, environment))
    )


def command_of(recorded: str, configuration_id: str) -> str:
    """The command that measures one configuration as a recorded one did, in a directory of its own.

    >>> command_of("grid.py mine.toml --only bits=4 --set run.device=cpu --workers 2", "c12")
    'python -m harness.grid mine.toml --set run.device=cpu --only id=c12 --out again'
    """
    asked = asked_of(recorded)
    return f"python -m harness.grid {asked} --only id={configuration_id} --out again" if asked else ""


def asked_of(recorded: str) -> str:
    """The experiment file of a recorded command, with what decides what is measured; empty where it has no file."""
    words = shlex.split(recorded)
    file = next((word for word in words if word.endswith(".toml") or word == EXPERIMENT.stem), None)
    return "" if file is None else shlex.join([file, *_repeated(words)])


def asked_for(run: PageRun) -> str:
    """The same of the run, as far as one of its cells tells; else a file of its name."""
    done = (run.stored.environment(row["cell_id"]) for row in run.rows if row["status"] == "done")
    return next(filter(None, (asked_of(own.get("command") or "") for own in done)), f"{run.name}.toml")


def _repeated(words: Sequence[str]) -> Iterator[str]:
    for place, word in enumerate(words):
        if word in _REPEATED:
            yield from words[place : place + 2]
        elif word.startswith(tuple(f"{option}=" for option in _REPEATED)):
            yield word


def _facts(row: Row, environment: Mapping[str, Any]) -> Iterator[str]:
    packages = environment.get("packages") or {}
    own = versions(row["backend"]) if row["backend"] in available() else {}
    for name in dict.fromkeys(["asrquant", "torch", "transformers", *own]):
        if packages.get(name):
            yield f"{name} {packages[name]}"
    yield f"Python {environment['python']}"
    processor, threads = environment.get("processor"), environment.get("threads")
    yield environment.get("gpu") or f"{processor} with {threads} thread{'s' * (threads != 1)}"
    yield str(environment["finished"])[:10]
