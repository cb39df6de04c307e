"""Tasks and events: the values that pass between the runner and a worker; they pickle."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.experiment.cell import Cell, CellStatus, Configuration
from harness.experiment.config import Experiment
from harness.experiment.tables import Calibration, Decoding, Scoring


@dataclass(frozen=True)
class Task:
    """One configuration for one worker process.

    Attributes:
        configuration: what to quantize, and how.
        cells: its splits that are not finished yet.
        baselines: for each of them the full-precision cell of the same split, which gives drafts and answers.
        model_directory: local files of the model.
        run_directory: where finished cells are written.
        decoding, calibration, scoring: as in the experiment.
        threads: for torch.
        worse_by: points of WER beyond the baseline's at which a cell is stopped, if any.
        seed: of the order of speakers.
        sharing: for each cell, the cells of others that may have the same encoder and speech.
        cache_bytes: for encoder states that are shared.
        alone: nothing else runs beside it, so that speed may be reported.
        command: the command line, recorded with every cell.
        batches: that are transcribed of each cell at most; what is beyond is left for later. All without it.
        largest: bytes of a model of which anything is transcribed; any without it.
    """

    configuration: Configuration
    cells: tuple[Cell, ...]
    baselines: Mapping[str, str]
    model_directory: Path
    run_directory: Path
    decoding: Decoding
    calibration: Calibration | None
    scoring: Scoring
    threads: int
    worse_by: float | None
    seed: int
    sharing: Mapping[str, Sequence[str]]
    cache_bytes: int
    alone: bool
    command: str
    batches: int | None = None
    largest: int | None = None

    @classmethod
    def of(
        cls,
        cells: Sequence[Cell],
        experiment: Experiment,
        model_directory: Path,
        run_directory: Path,
        *,
        alone: bool = True,
        baselines: Mapping[str, str] = MappingProxyType({}),
        sharing: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> Task:
        """The task of this command line for cells of one configuration of `experiment`."""
        configuration = cells[0].configuration
        return cls(
            configuration,
            tuple(cells),
            dict(baselines),
            model_directory,
            run_directory.resolve(),
            experiment.decoding,
            configuration.drawn(experiment.calibration),
            experiment.scoring,
            experiment.run.threads_per_worker,
            None if experiment.run.stop is None else experiment.run.stop.worse_by,
            experiment.run.seed,
            dict(sharing),
            int(experiment.run.encoder_cache_gb * 1e9),
            alone,
            shlex.join(sys.argv),
        )

    @property
    def label(self) -> str:
        """Short name for people: the configuration, and the split where it does one."""
        own = self.configuration.label
        return own if len(self.cells) > 1 else f"{own} on {self.cells[0].data.label}"

    def utterances(self, cell: Cell) -> int:
        """How many of a cell's are to be transcribed."""
        return sum(map(len, cell.batches[: self.batches]))

    @property
    def lease(self) -> str:
        """Names the work, the same for every runner of the experiment: the configuration; a baseline's own cell."""
        return self.cells[0].cell_id if self.configuration.is_baseline else self.configuration.id


@dataclass(frozen=True)
class TimingTask:
    """One configuration to be timed beside its full-precision baseline, on speech of the task's first cell.

    Attributes:
        task: as for a worker.
        repeats: pairs that are timed.
        warmup: pairs before that, which are not.
        alone: whether nothing is transcribed in batches.
    """

    task: Task
    repeats: int
    warmup: int
    alone: bool


@dataclass(frozen=True)
class AnalysisTask:
    """One configuration to be analysed on speech of the task's first cell.

    Attributes:
        task: as for a worker.
        utterances: how many, drawn at random, the same ones in every call.
    """

    task: Task
    utterances: int


@dataclass(frozen=True)
class ReplayTask:
    """Planned batches of one configuration to be transcribed again, plainly; nothing is written.

    Attributes:
        task: as for a worker.
        batches: indices of planned batches, by cell id.
    """

    task: Task
    batches: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class SaveTask:
    """One configuration to be quantized and saved.

    Attributes:
        task: as for a worker.
        directory: where to; nothing is there.
    """

    task: Task
    directory: Path


@dataclass(frozen=True)
class Phase:
    """What a worker does from now on.

    Attributes:
        what: for people: the split that is transcribed, or such as `quantizing`.
        utterances: of the split; 0 where there is nothing to count.
    """

    what: str
    utterances: int = 0


@dataclass(frozen=True)
class Progress:
    """So many utterances were transcribed; `kept` ones by an earlier run, so that they took no time."""

    utterances: int
    kept: bool = False


@dataclass(frozen=True)
class CellDone:
    """A cell is finished and written."""

    cell_id: str


@dataclass(frozen=True)
class CellPaused:
    """A cell is left for later, as was asked.

    Attributes:
        size_bytes: of the quantized model.
        quantize_seconds: what quantizing took.
    """

    cell_id: str
    size_bytes: int
    quantize_seconds: float


@dataclass(frozen=True)
class Ended:
    """The configuration came to an end, with or without success: the last event of a task."""

    status: CellStatus
    reason: str


@dataclass(frozen=True)
class Unwritable:
    """What was measured cannot be kept, whatever the configuration: a sentence for the user."""

    reason: str


@dataclass(frozen=True)
class Timed:
    """One measure was timed: its row, without what names the configuration."""

    row: dict[str, Any]


@dataclass(frozen=True)
class Analysed:
    """An analysis is done: what `harness.analysis.analysis.analyse` found."""

    document: dict[str, Any]


@dataclass(frozen=True)
class Replayed:
    """A batch was transcribed again: the rows of its utterances, and those of the model's layers."""

    cell_id: str
    rows: Sequence[Mapping[str, Any]]
    layers: Sequence[Mapping[str, Any]]


Event = Phase | Progress | CellDone | CellPaused | Unwritable | Ended
