"""A task on a node of a cluster: checked against the driver, done in a process, reported.

Of the engine that brought the task here only `Post` is known. Results go into the run directory where this machine has
it, which is tried out, or are sent back whole.
"""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from backends import AsrQuantError
from harness import datasets
from harness.embedded import MODELS, PLANTED
from harness.errors import CheckpointNotFoundError, ConfigError, DataError
from harness.execution.engines.local import LocalEngine
from harness.execution.task import CellDone, Ended, Event, Task, Unwritable
from harness.experiment.cell import CellStatus
from harness.experiment.tables import Calibration, Data, Model
from harness.records.files import temporary_beside
from harness.records.layout import Files
from harness.records.recording import RunDirectory
from harness.records.scratch import scratch_directory
from harness.records.store import StoredRun
from harness.resolution.calibration import calibration_corpus
from harness.resolution.checkpoints import ResolvedModel, resolve_model
from harness.resolution.identity import versions_of


@dataclass(frozen=True)
class Order:
    """A task on its way to a node.

    Attributes:
        task: with absolute paths.
        token: a file in the run directory, and what is in it.
        stall_timeout: see `LocalEngine`.
    """

    task: Task
    token: tuple[Path, str]
    stall_timeout: float


@dataclass(frozen=True)
class Began:
    """The task is being done now."""


@dataclass(frozen=True)
class Brought:
    """A finished cell, for the driver to write."""

    cell_id: str
    files: Files


@dataclass(frozen=True)
class Left:
    """The task was left as it is, because the driver asked for an end."""


Letter = Event | Began | Brought | Left
"""What a node tells the driver."""


class Post(Protocol):
    """The way to the driver."""

    def send(self, letters: Sequence[Letter]) -> bool:
        """Deliver letters, in order; whether the driver wants the task to end after its present batch."""
        ...

    def drafts(self) -> Mapping[str, Files]:
        """The finished cells whose transcripts are the task's drafts."""
        ...


def work(order: Order, post: Post) -> None:
    """Do a task; a worker that crashes or hangs costs this task."""
    post.send([Began()])
    try:
        task = _fitted(order.task)
    except AsrQuantError as error:
        post.send([Ended(CellStatus.FAILED, _here(error))])
        return
    with _place(order, post) as (directory, shared):
        own = dataclasses.replace(task, run_directory=directory, sharing=task.sharing if shared else {})
        _done(own, order.stall_timeout, post, shared=shared)


def _done(task: Task, stall_timeout: float, post: Post, *, shared: bool) -> None:
    """Do a task in a process of its own, and pass on what it says."""
    ended = False
    with LocalEngine(1, task.threads, stall_timeout) as engine:
        engine.submit(task)
        while engine.busy():
            events = [event for _, event in engine.events(1.0)]
            ended |= any(isinstance(event, Ended) for event in events)
            if post.send([_letter(event, task, shared=shared) for event in events]):
                engine.stop()
    if not ended:
        post.send([Left()])


def _letter(event: Event, task: Task, *, shared: bool) -> Letter:
    if isinstance(event, CellDone) and not shared:
        return Brought(event.cell_id, StoredRun(task.run_directory).files(event.cell_id))
    return Unwritable(_here(event.reason)) if isinstance(event, Unwritable) else event


def _here(what: object) -> str:
    return f"node {platform.node()}: {what}"


@contextmanager
def _place(order: Order, post: Post) -> Iterator[tuple[Path, bool]]:
    """The run directory where this node shares it, else a temporary one with the drafts; which of both."""
    if _shares(order):
        yield order.task.run_directory, True
        return
    with tempfile.TemporaryDirectory(dir=scratch_directory()) as scratch:
        directory = RunDirectory(Path(scratch) / "run")
        for cell_id, files in post.drafts().items():
            directory.adopt(cell_id, files)
        yield directory.path, False


def _shares(order: Order) -> bool:
    """Whether this node sees what the driver wrote into the run directory, and can write there."""
    path, content = order.token
    try:
        if path.read_text(encoding="utf-8") != content:
            return False
        probe = temporary_beside(StoredRun(order.task.run_directory).cells / "node")
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _fitted(task: Task) -> Task:
    """The task with this node's own files of the model.

    Raises:
        AsrQuantError: the node is not like the driver: software, model or speech are missing or others.
    """
    identity = task.cells[0].identity
    _check_software(task.configuration.backend, identity)
    for cell in task.cells:
        _check_speech(cell.data, _test_speech(cell.data), cell.identity["data"])
    if task.calibration is not None:
        own = _calibration_speech(task.calibration)
        _check_speech(task.calibration.data, own, identity["calibration_speech"])
    return dataclasses.replace(task, model_directory=_model(task, identity["model"]["revision"]).directory)


def _check_software(backend: str, identity: Mapping[str, Any]) -> None:
    theirs = {**identity["versions"], "machine": identity["machine"]}
    ours = {**versions_of(backend), "machine": platform.machine()}
    for name in sorted(theirs):
        if ours.get(name) != theirs[name]:
            raise ConfigError(f"{name} is {ours.get(name)} here and {theirs[name]} at the driver; install the same")


Speech = tuple[str, str, dict[str, Any]]
"""What identifies a corpus: id, revision, and what is done to it."""


def _check_speech(data: Data, own: Speech, identity: Mapping[str, Any]) -> None:
    if own[:2] == (identity["id"], identity["revision"]) and own[2] != identity.get("condition", {}):
        raise DataError(f"the noise of {data.label} is another one than the driver's; copy the same recordings")
    if own[:2] != (identity["id"], identity["revision"]):
        mend = "install the same asrquant" if data.root is None else f"copy the same files to {data.root}"
        raise DataError(f"the data set {data.label} is another one than the driver's; {mend}")


@cache
def _test_speech(data: Data) -> Speech:
    """What identifies a corpus; what the hub has of it is fetched once."""
    corpus = datasets.load(data)
    return corpus.id, corpus.revision, corpus.condition


@cache
def _calibration_speech(calibration: Calibration) -> Speech:
    corpus = calibration_corpus(calibration)
    return corpus.id, corpus.revision, corpus.condition


def _model(task: Task, revision: str) -> ResolvedModel:
    found = resolve_model(_asked(task, revision))
    if found.revision != revision:
        raise CheckpointNotFoundError(f"{found.directory}: it is another model than the driver's; copy the same files")
    return found


def _asked(task: Task, revision: str) -> Model:
    """The model by its name where it is the package's, by its commit where it is the hub's, else by its path."""
    model = task.configuration.model
    if model.path in (*MODELS, *PLANTED):
        return model
    if task.model_directory.name == revision:
        return model.model_copy(update={"revision": revision})
    return model.model_copy(update={"path": str(task.model_directory)})
