"""Tasks on a Ray cluster: each is a Ray task with its needs, which reports to a mailbox beside the driver.

A task whose node or Ray worker was lost is begun again elsewhere, without the cells that it had finished. What happens
on a node is in `harness.execution.engines.node`. Ray itself is imported when the engine is entered.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from harness.errors import OutputError
from harness.execution.engines.cluster import Mailbox, RayPost, connected, on_node, token
from harness.execution.engines.node import Began, Brought, Left, Letter, Order, Post, work
from harness.execution.task import CellDone, Ended, Event, Progress, Task, Unwritable
from harness.experiment.cell import CellStatus
from harness.experiment.conditions import NOISES
from harness.experiment.tables import Data, Run
from harness.records.recording import RunDirectory

_ATTEMPTS = 4
"""At a task that loses its node or its Ray worker."""
_LOOK = 5.0
"""Seconds after which the cluster's nodes are counted again."""


@dataclass
class _Running:
    task: Task
    done: set[str] = field(default_factory=set)
    attempts: int = 0
    began: bool = False
    utterances: int = 0
    ref: Any = None

    def rest(self) -> Task:
        """What is left to do, with paths that hold anywhere."""
        left = (cell for cell in self.task.cells if cell.cell_id not in self.done)
        cells = tuple(dataclasses.replace(cell, data=_rooted(cell.data)) for cell in left)
        calibration = self.task.calibration
        if calibration is not None:
            calibration = calibration.model_copy(update={"data": _rooted(calibration.data)})
        return dataclasses.replace(self.task, cells=cells, calibration=calibration)


class RayEngine:
    """See `Engine`.

    Args:
        run: address, needs and timeouts.
        directory: of the run; cells of nodes that do not share it are written by this process.
        duty: what a node does with an order.
    """

    begins_early = False
    """A node that does not share the run directory gets the baselines' cells with the task."""

    def __init__(self, run: Run, directory: RunDirectory, duty: Callable[[Order, Post], None] = work) -> None:
        self._run, self._directory, self._duty = run, directory, duty
        self._running: dict[str, _Running] = {}
        self._baselines: dict[str, Any] = {}
        self._open = ExitStack()
        self._ray: Any = None
        self._nodes: tuple[float, list[Mapping[str, float]]] = (-math.inf, [])
        self._idle_since = math.inf
        self._stopping = False

    def __enter__(self) -> RayEngine:
        with ExitStack() as stack:
            self._token = stack.enter_context(token(self._directory.path))
            self._ray = stack.enter_context(connected(self._run))
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity

            here = Affinity(self._ray.get_runtime_context().get_node_id(), soft=False)
            self._mailbox = self._ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
            self._mail = self._mailbox.take.remote()
            self._task = self._ray.remote(on_node)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for running in self._running.values():
                self._cancel(running, force=True)
        finally:
            self._open.close()

    def describe(self) -> str:
        """How many nodes there are, and their room."""
        room = self._run.workers or self._room()
        return f"on {len(self._alive())} nodes of Ray, {room} at a time"

    def has_room(self) -> bool:
        """Whether a processor is free; some tasks more are sent, so that no node waits and a cluster can grow."""
        room = self._room()
        return len(self._running) < (self._run.workers or room + room // 4 + 1)

    def busy(self) -> bool:
        """Whether any task is at a node, or on its way."""
        return bool(self._running)

    def submit(self, task: Task) -> None:
        """Send it to where its needs are met."""
        self._send(_Running(task))

    def stop(self) -> None:
        """Tell all nodes; what has not begun is called back."""
        self._stopping = True
        self._mailbox.stop.remote()
        for attempt, running in list(self._running.items()):
            if not running.began:
                self._cancel(running)
                del self._running[attempt]

    def events(self, seconds: float) -> Sequence[tuple[Task, Event]]:
        """What the nodes wrote, and what became of those that do not write any more."""
        if not self._running:
            time.sleep(seconds)
            return []
        waited = [self._mail, *(running.ref for running in self._running.values() if running.ref is not None)]
        self._ray.wait(waited, num_returns=1, timeout=seconds, fetch_local=False)
        return [*self._delivered(), *self._lost(), *self._forlorn()]

    def _cancel(self, running: _Running, *, force: bool = False) -> None:
        if running.ref is not None:  # else it is over, and its letters are on their way
            self._ray.cancel(running.ref, force=force)

    def _send(self, running: _Running) -> None:
        attempt, task = uuid4().hex, running.rest()
        running.attempts, running.began, running.utterances = running.attempts + 1, False, 0
        order = Order(task, self._token, self._run.stall_timeout)
        post = RayPost(attempt, self._mailbox, {cell: [ref] for cell, ref in self._of_baselines(task).items()})
        running.ref = self._task.options(**self._needs(task)).remote(self._duty, order, post)
        self._running[attempt] = running

    def _needs(self, task: Task) -> dict[str, Any]:
        gpus = self._run.gpus if task.configuration.device == "cuda" else 0
        return {
            "num_cpus": self._cpus(),
            "num_gpus": gpus,
            "memory": int(self._run.memory_gb * 2**30) or None,
            "max_retries": 0,
            "scheduling_strategy": "SPREAD",
        }

    def _cpus(self) -> float:
        return self._run.cpus or self._run.threads_per_worker

    def _of_baselines(self, task: Task) -> dict[str, Any]:
        """Where nodes that do not share the run directory find the baselines' cells."""
        cells = dict.fromkeys(task.baselines.values())
        for cell in cells:
            if cell not in self._baselines and self._directory.finished(cell, CellStatus.DONE):
                self._baselines[cell] = self._ray.put(self._directory.files(cell))
        return {cell: self._baselines[cell] for cell in cells if cell in self._baselines}

    def _alive(self) -> list[Mapping[str, float]]:
        """The resources of all nodes, at most some seconds ago."""
        if time.monotonic() - self._nodes[0] > _LOOK:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._nodes = time.monotonic(), nodes
        return self._nodes[1]

    def _room(self) -> int:
        """Tasks that fit on all nodes by processors and memory. (GPUs are left to Ray.)"""
        memory = self._run.memory_gb * 2**30
        return sum(
            int(min(node.get("CPU", 0) / self._cpus(), node.get("memory", 0) / memory if memory else math.inf))
            for node in self._alive()
        )

    def _delivered(self) -> Iterator[tuple[Task, Event]]:
        ready, _ = self._ray.wait([self._mail], timeout=0)
        if ready:
            letters = self._letters()
            self._mail = self._mailbox.take.remote()
            for attempt, letter in letters:
                yield from self._opened(attempt, letter)

    def _letters(self) -> list[tuple[str, Letter]]:
        try:
            letters: list[tuple[str, Letter]] = self._ray.get(self._mail)
        except self._ray.exceptions.RayError as error:
            raise OutputError(
                f"Ray lost the process in which results arrive ({type(error).__name__}); run the same command again"
            ) from None
        return letters

    def _opened(self, attempt: str, letter: Letter) -> Iterator[tuple[Task, Event]]:
        """What a letter says; nothing if it is of an attempt that was given up."""
        running = self._running.get(attempt)
        if running is None:
            return
        event = self._kept(letter) if isinstance(letter, Brought) else letter
        if isinstance(event, Began):
            running.began = True
        elif isinstance(event, Left):
            del self._running[attempt]
        else:
            self._note(attempt, running, event)
            yield running.task, event

    def _kept(self, brought: Brought) -> Event:
        """Write a cell that was sent back."""
        try:
            self._directory.adopt(brought.cell_id, brought.files)
        except OutputError as error:
            return Unwritable(str(error))
        return CellDone(brought.cell_id)

    def _note(self, attempt: str, running: _Running, event: Event) -> None:
        if isinstance(event, Progress):
            running.utterances += event.utterances
        elif isinstance(event, CellDone):
            running.done.add(event.cell_id)
            running.utterances = 0  # what is finished is not taken back when the node is lost
        elif isinstance(event, Ended):
            del self._running[attempt]

    def _lost(self) -> Iterator[tuple[Task, Event]]:
        """Tasks whose node wrote no end; what ended well has its letters on the way."""
        refs = {running.ref: attempt for attempt, running in self._running.items() if running.ref is not None}
        ready, _ = self._ray.wait(list(refs), num_returns=len(refs), timeout=0) if refs else ([], [])
        for ref in ready:
            attempt = refs[ref]
            try:
                self._ray.get(ref)
                self._running[attempt].ref = None
            except self._ray.exceptions.RayError as error:
                yield from self._again(self._running.pop(attempt), error)

    def _again(self, running: _Running, error: Exception) -> Iterator[tuple[Task, Event]]:
        """Begin a task once more where its node is to blame for the error, or say how it ended."""
        end = self._ending(running, error)
        if end is not None:
            yield running.task, end
            return
        if running.utterances:
            yield running.task, Progress(-running.utterances)
        if not self._stopping:
            self._send(running)

    def _ending(self, running: _Running, error: Exception) -> Ended | None:
        if len(running.done) == len(running.task.cells):
            return Ended(CellStatus.DONE, "")
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            return Ended(CellStatus.OUT_OF_MEMORY, "the memory of the node was full, and Ray ended the worker")
        if isinstance(error, self._ray.exceptions.RayTaskError):
            return Ended(CellStatus.FAILED, f"the node could not do it: {error.cause}\n{error}")
        if running.attempts < _ATTEMPTS:
            return None
        reason = f"it lost its node or its Ray worker {running.attempts} times; the last time Ray said"
        return Ended(CellStatus.FAILED, f"{reason}: {error}")

    def _forlorn(self) -> Iterator[tuple[Task, Event]]:
        """Tasks that no node takes, where nothing runs that they could wait for."""
        if any(running.began for running in self._running.values()) or not self._running:
            self._idle_since = math.inf
            return
        self._idle_since = min(self._idle_since, time.monotonic())
        if time.monotonic() - self._idle_since > self._run.stall_timeout:
            for attempt, running in list(self._running.items()):
                self._cancel(running)
                del self._running[attempt]
                yield running.task, Ended(CellStatus.TIMED_OUT, self._unmet(running.task))

    def _unmet(self, task: Task) -> str:
        needs = self._needs(task)
        return (
            f"for {self._run.stall_timeout:g} s no node was free that has {needs['num_cpus']:g} processors, "
            f"{needs['num_gpus']:g} GPUs and {self._run.memory_gb:g} GiB (run.cpus, run.gpus, run.memory_gb)"
        )


def _rooted(data: Data) -> Data:
    """The same corpus, alignments and noise with absolute paths: nodes work in other directories."""
    root, alignments = (None if path is None else _absolute(path) for path in (data.root, data.alignments))
    noise = data.condition.noise if data.condition.noise in NOISES else _absolute(data.condition.noise)
    return data.model_copy(update={"root": root, "alignments": alignments, "noise": noise})


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
