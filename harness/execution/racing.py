"""The cells of a search: transcribed as far as a round needs them, and left for the next round, or for the grid."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from harness._printing import counted
from harness.errors import ConfigError, DataError
from harness.execution.engines import Engine
from harness.execution.kept import place_of
from harness.execution.preparation import Prepared, baselines_of, engine_of, groups_of, workers_of
from harness.execution.runner import Observer, Runner
from harness.execution.task import Task
from harness.experiment.cell import Cell, CellStatus
from harness.experiment.tables import Data, scorer_of
from harness.records.layout import LEASES, MODELS
from harness.records.leases import Leases
from harness.records.parts import Parts
from harness.resolution.batching import drawn_speakers
from harness.stats.race import FEWEST_SPEAKERS, Errors, looks_of
from harness.stats.resampling import Values
from harness.stats.sample import by_speaker

Row = Mapping[str, Any]
_COUNTED = ("id", "error", "substitutions", "deletions", "insertions", "reference_words")
Observing = Callable[[int, int], AbstractContextManager[Observer]]
"""Gives who is told how so many cells and utterances go."""


@dataclass
class Spent:
    """What was done in this call.

    Attributes:
        utterances: that were transcribed.
        quantized: how many times a model was quantized.
        quantize_seconds: that this took, all workers together.
    """

    utterances: int = 0
    quantized: int = 0
    quantize_seconds: float = 0.0


def stages(speakers: Sequence[Sequence[str]], batches: Sequence[Sequence[str]]) -> dict[int, int]:
    """The looks of a race, by how many whole speakers they have: after how many batches.

    Batches are of blocks of whole speakers, so that a look may have some more than it asks for.

    >>> stages([[name] for name in "abcdefghijklmnop"], ["abcdefghij", "klmnop"])
    {10: 1, 16: 2}
    """
    place = {name: index for index, batch in enumerate(batches) for name in batch}
    ends = [max(place[name] for name in own) + 1 for own in speakers]
    after = [max(ends[: count + 1]) for count in range(len(ends))]
    asked = (after[look - 1] for look in looks_of(len(speakers)))
    return {sum(end <= done for end in after): done for done in asked}


class Racing:
    """The cells of one split.

    Args:
        run: prepared.
        data: the split.
        engine, leases: entered.
        workers: at a time.
        observing: asked in every round.
        retry: whether what was recorded as not done is tried again.

    Attributes:
        data: the split.
        cells: of it, by their ids.
        speakers: the utterances of each, in the order in which they are transcribed.
        known: whether speakers are known; else every utterance is one.
        stages: see there.
        spent: so far.

    Raises:
        DataError: there are too few speakers.
    """

    def __init__(
        self,
        run: Prepared,
        data: Data,
        engine: Engine,
        leases: Leases,
        workers: int,
        observing: Observing,
        *,
        retry: bool,
    ) -> None:
        self._run, self._engine, self._leases = run, engine, leases
        self._workers, self._observing, self._retry = workers, observing, retry
        self.data = data
        self.cells = {c.cell_id: c for c in run.own if c.data == data}
        self._baselines = baselines_of(run.cells)
        self._before = {cell_id: run.directory.stamp(cell_id) for cell_id in self.cells}
        utterances = run.resolved.corpora[data].utterances
        self.speakers = drawn_speakers(utterances, run.experiment.run.seed)
        self.known = all(utterance.speaker is not None for utterance in utterances)
        if len(self.speakers) < FEWEST_SPEAKERS:
            raise DataError(
                f"{data.label} has {counted(len(self.speakers), 'speaker')}; a search compares by speakers and needs "
                f"{FEWEST_SPEAKERS}: take another test set, or more of it"
            )
        self.stages = stages(self.speakers, next(iter(self.cells.values())).batches)
        self.spent = Spent()
        self._parts: dict[str, list[list[Row]]] = {}

    @property
    def error_unit(self) -> str:
        """What errors are counted in, `word` or `character`."""
        experiment = self._run.experiment
        return scorer_of(experiment.scoring, self.data, experiment.decoding).unit()

    def baseline(self, cell_id: str) -> str:
        """The id of a cell's full precision; of full precision its own."""
        return self._baselines.get(cell_id, cell_id)

    def bring(self, cell_ids: Sequence[str], look: int, largest: int | None = None) -> None:
        """Transcribe so many speakers of cells, and all of full precision's; nothing of models beyond `largest` bytes.

        Raises:
            ConfigError: full precision cannot be measured.
        """
        batches = self.stages[look]
        baselines = list(dict.fromkeys(map(self.baseline, cell_ids)))
        others = [cell_id for cell_id in cell_ids if cell_id not in baselines]
        missing = [cell_id for cell_id in baselines if self._status(cell_id) is None]
        missing += [cell_id for cell_id in others if self._lacks(cell_id, batches, largest)]
        if missing:
            tasks = self._run.tasks([self.cells[cell_id] for cell_id in missing], self._workers)
            self._do([self._limited(task, batches, largest) for task in tasks])
        for cell_id in baselines:
            if self._status(cell_id) is not CellStatus.DONE:
                reason = (self._run.directory.finished(cell_id) or {}).get("reason", "it was not done")
                raise ConfigError(f"{self.cells[cell_id].configuration.label}, with which all are compared: {reason}")

    def fetch(self, cell_ids: Sequence[str], look: int) -> Errors:
        """Word errors by speaker, of so many speakers or more; without the cells that cannot be done."""
        self.bring(cell_ids, look)
        failed = self.failed(cell_ids)
        return {cell_id: self.counts(cell_id)[0] for cell_id in cell_ids if cell_id not in failed}

    def counts(self, cell_id: str) -> tuple[Values, Values]:
        """Word errors and reference words of the speakers so far, (speakers,) each."""
        directory = self._run.directory
        if self._status(cell_id) is CellStatus.DONE:
            rows: list[Row] = [*directory.utterances(cell_id), *directory.undecodable(cell_id)]
        else:
            rows = [row for batch in self._finished(cell_id) for row in batch]
        return by_speaker(rows, self.speakers)

    def size(self, cell_id: str) -> int:
        """Bytes of a model that was quantized."""
        known = self._known_size(cell_id)
        assert known is not None, cell_id
        return known

    def failed(self, cell_ids: Sequence[str]) -> dict[str, tuple[CellStatus, str]]:
        """Status and reason of those that could not be done."""
        ended = {cell_id: self._status(cell_id) for cell_id in cell_ids}
        return {
            cell_id: (status, (self._run.directory.finished(cell_id) or {})["reason"])
            for cell_id, status in ended.items()
            if status not in (None, CellStatus.DONE)
        }

    def _status(self, cell_id: str) -> CellStatus | None:
        """How a cell ended; `None` where it is open, also after an early stop, or is tried again."""
        stored = self._run.directory.finished(cell_id)
        if stored is None or stored["status"] == CellStatus.STOPPED:
            return None
        again = self._retry and self._run.directory.stamp(cell_id) == self._before[cell_id]
        return None if again and stored["status"] != CellStatus.DONE else CellStatus(stored["status"])

    def _lacks(self, cell_id: str, batches: int, largest: int | None) -> bool:
        if self._status(cell_id) is not None:
            return False
        size = self._known_size(cell_id)
        if size is None:
            return True
        return (largest is None or size <= largest) and len(self._finished(cell_id)) < batches

    def _finished(self, cell_id: str) -> list[list[Row]]:
        """What is counted of the utterances of finished batches, from the first on; each is read once."""
        own, parts = self._parts.setdefault(cell_id, []), Parts(self._run.directory.path, cell_id)
        while len(own) < len(self.cells[cell_id].batches) and (part := parts.load(len(own))):
            own.append([{key: row[key] for key in _COUNTED} for row in part.rows])
        return own

    def _known_size(self, cell_id: str) -> int | None:
        known: int | None = self._measured(cell_id).get("size_bytes")
        return Parts(self._run.directory.path, cell_id).size() if known is None else known

    def _measured(self, cell_id: str) -> Mapping[str, Any]:
        stored = self._run.directory.finished(cell_id)
        return {} if stored is None else stored["measured"]

    def _limited(self, task: Task, batches: int, largest: int | None) -> Task:
        """The task as far as a look needs it; the race itself says what is hopeless."""
        if task.configuration.is_baseline:
            return task
        return replace(task, batches=batches, largest=largest, worse_by=None)

    def _do(self, tasks: Sequence[Task]) -> None:
        cells = [(task, cell) for task in tasks for cell in task.cells]
        kept = {cell.cell_id: len(self._finished(cell.cell_id)) for _, cell in cells}
        there = {cell.cell_id for _, cell in cells if place_of(self._run.directory.path, cell.cell_id).is_dir()}
        with self._observing(len(cells), sum(task.utterances(cell) for task, cell in cells)) as observer:
            runner = Runner(self._run.directory, self._leases, self._engine, observer, self._before)
            runner.run(tasks)
        for _, cell in cells:
            now, paused = self._done(cell), runner.paused.get(cell.cell_id)
            self.spent.utterances += sum(map(len, cell.batches[kept[cell.cell_id] : now]))
            if cell.configuration.is_baseline or cell.cell_id in there:
                continue
            self.spent.quantized += 1
            self.spent.quantize_seconds += (
                self._measured(cell.cell_id).get("quantize_seconds", 0.0) if paused is None else paused.quantize_seconds
            )

    def _done(self, cell: Cell) -> int:
        """How many batches are finished."""
        done = self._status(cell.cell_id) is CellStatus.DONE
        return len(cell.batches if done else self._finished(cell.cell_id))


@contextmanager
def racing(run: Prepared, data: Data, observing: Observing, *, retry: bool) -> Iterator[Racing]:
    """The cells of a split, with all that is needed to work on them; models that were kept go in the end."""
    experiment, directory = run.experiment, run.directory
    workers = workers_of(experiment, groups_of([cell for cell in run.own if cell.data == data]))
    with (
        Leases(directory.path / LEASES, experiment.run.lease_timeout) as leases,
        engine_of(experiment, workers, directory) as engine,
    ):
        yield Racing(run, data, engine, leases, workers, observing, retry=retry)
    shutil.rmtree(directory.path / MODELS, ignore_errors=True)
