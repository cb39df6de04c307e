"""Before a run: its directory, which cells are missing, which models are refused, tasks in order, and the engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backends import AsrQuantError, Unsupported
from harness.errors import ConfigError
from harness.execution.task import Task
from harness.experiment.cell import Cell, CellStatus, Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import baseline_of, with_devices
from harness.experiment.tables import Decoding, Model, Stop

if TYPE_CHECKING:
    from harness.execution.engines import Engine
    from harness.records.recording import RunDirectory
    from harness.resolution.identity import Resolved


@dataclass(frozen=True)
class Prepared:
    """A run directory that is shared with other runners, and what was planned to be done there.

    Attributes:
        experiment: as it was asked for.
        directory: of the run.
        resolved: models and speech.
        cells: of every planned configuration whose model is at hand.
        chosen: those that are to be done now.
        refused: models that cannot be used, and why.
        damaged: what was wrong with cells that were set aside.
    """

    experiment: Experiment
    directory: RunDirectory
    resolved: Resolved
    cells: Mapping[Configuration, Sequence[Cell]]
    chosen: Sequence[Configuration]
    refused: Mapping[Model, str]
    damaged: Sequence[str]

    @property
    def own(self) -> list[Cell]:
        """The cells of the chosen configurations."""
        return [cell for configuration in self.chosen for cell in self.cells[configuration]]

    @property
    def every(self) -> list[Cell]:
        """All cells, which the results list."""
        return [cell for own in self.cells.values() for cell in own]

    def judged(self, cell: Cell) -> Cell:
        """The cell; of a refused model as one that cannot be done."""
        model = cell.configuration.model
        return replace(cell, configuration=_answered(cell.configuration, self.refused.get(model)))

    def tasks(self, missing: Sequence[Cell], workers: int) -> list[Task]:
        """Tasks for missing cells, in the order in which they are begun; so many are done at a time."""
        baselines, sharing = baselines_of(self.cells), sharing_of(missing)
        return [
            Task.of(
                own,
                self.experiment,
                self.resolved.models[own[0].configuration.model].directory,
                self.directory.path,
                alone=workers == 1 and self.experiment.run.engine == "local",
                baselines={cell.cell_id: baselines[cell.cell_id] for cell in own if cell.cell_id in baselines},
                sharing={cell.cell_id: sharing[cell.cell_id] for cell in own if sharing.get(cell.cell_id)},
            )
            for own in groups_of(missing)
        ]


@contextmanager
def prepared(
    experiment: Experiment, planned: Sequence[Configuration], chosen: Sequence[Configuration]
) -> Iterator[Prepared]:
    """Open the run directory of an experiment and find what the planned configurations need; what is asked for is kept.

    Raises:
        AsrQuantError: something is not there or cannot be used, or the directory is held or cannot be written.
    """
    from harness.records.batch_size import settled
    from harness.records.recording import RunDirectory
    from harness.resolution.identity import cells_of, resolve

    directory = RunDirectory(Path(experiment.run.output).expanduser() / experiment.name)
    with directory.shared():
        resolved = resolve(experiment, chosen, partial(settled, directory.path))
        at_hand = [c for c in planned if c.model in resolved.models]
        cells = {c: cells_of(c, experiment, resolved) for c in dict.fromkeys([*at_hand, *chosen])}
        refused = refused_models([cell for c in chosen for cell in cells[c]], directory, resolved, experiment.decoding)
        directory.write_experiment(with_devices(experiment).model_dump(mode="json"))
        damaged = directory.set_aside(cell.cell_id for own in cells.values() for cell in own)
        yield Prepared(experiment, directory, resolved, cells, chosen, refused, damaged)


def looked_at(chosen: Sequence[Configuration], experiment: Experiment) -> list[Configuration]:
    """The configurations, with what speaks against them on this machine, as far as it costs nothing to find out.

    Raises:
        AsrQuantError: no model can be used, or a table or a split cannot be read.
    """
    from harness import datasets
    from harness.resolution.checkpoints import check_local

    for data in [*experiment.data, *([experiment.calibration.data] if experiment.calibration else [])]:
        dataset = datasets.get(data.dataset)
        datasets.check_noise(data.condition.noise)
        if data.root is not None:
            datasets.load(data, cached_only=True)
        elif splits := getattr(dataset, "splits", ()):
            datasets.check_split(data, splits)
    refused = _refusals([c.model for c in chosen], partial(check_local, decoding=experiment.decoding))
    no_gpu = experiment.run.engine == "local" and shutil.which("nvidia-smi") is None
    without_gpu = 'no GPU can be used here, since no NVIDIA driver answers: set run.device = "cpu"'
    against = [refused.get(c.model) or (without_gpu if c.device == "cuda" and no_gpu else None) for c in chosen]
    return [_answered(c, reason) for c, reason in zip(chosen, against, strict=True)]


def _answered(configuration: Configuration, reason: str | None) -> Configuration:
    """The configuration; where there is a reason against it, as one that cannot be done."""
    return configuration if reason is None else replace(configuration, capability=Unsupported(reason))


def _refusals(models: Sequence[Model], check: Callable[[Model], None]) -> dict[Model, str]:
    """The models that cannot be used, and why.

    Raises:
        AsrQuantError: there are no others.
    """
    refused: dict[Model, AsrQuantError] = {}
    for model in dict.fromkeys(models):
        try:
            check(model)
        except AsrQuantError as error:
            refused[model] = error
    if refused and all(model in refused for model in models):
        raise next(iter(refused.values()))
    return {model: str(error) for model, error in refused.items()}


def refused_models(
    own: Sequence[Cell], directory: RunDirectory, resolved: Resolved, decoding: Decoding
) -> dict[Model, str]:
    """The models whose files say that they cannot be used, and why; of a model that is done nothing is asked.

    Raises:
        CheckpointError, CheckpointNotFoundError: there are no others.
    """
    from harness.resolution.checkpoints import check_parts

    missing = {c.configuration.model for c in own if directory.finished(c.cell_id, CellStatus.DONE) is None}

    def check(model: Model) -> None:
        if model in missing:
            check_parts(resolved.models[model].directory, decoding)

    return _refusals([cell.configuration.model for cell in own], check)


def is_missing(cell: Cell, directory: RunDirectory, stop: Stop | None, *, retry: bool) -> bool:
    """Whether a cell is to be done: it is not finished, or ended badly and is tried again, or goes on after a stop.

    A stopped one goes on where the experiment does not stop any more, or later.
    """
    stored = directory.finished(cell.cell_id)
    if stored is None:
        return True
    if stored["status"] == CellStatus.STOPPED:
        return stop is None or stop.worse_by > stored["measured"]["worse_by"]
    return retry and stored["status"] != CellStatus.DONE


def baselines_of(cells: Mapping[Configuration, Sequence[Cell]]) -> dict[str, str]:
    """By the id of every cell that is no baseline's itself: the full-precision cell of the same split."""
    by_place = {(c, cell.data.label): cell.cell_id for c, own in cells.items() for cell in own}
    return {
        cell.cell_id: by_place[baseline_of(c), cell.data.label]
        for c, own in cells.items()
        if not c.is_baseline
        for cell in own
    }


def sharing_of(missing: Sequence[Cell]) -> dict[str, list[str]]:
    """For every cell the others that may have the same encoder on the same speech; the worker finds out."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cell in missing:
        encoder = cell.configuration.encoder
        if encoder is not None:
            groups.setdefault((encoder, cell.data.label), []).append(cell.cell_id)
    return {cell_id: [other for other in own if other != cell_id] for own in groups.values() for cell_id in own}


def workers_of(experiment: Experiment, groups: Sequence[Sequence[Cell]]) -> int:
    """How many processes work at a time: as asked, or as many as the machine has room for; no more than groups."""
    from harness.resolution.batching import default_workers

    return min(experiment.run.workers or default_workers(own[0].configuration.device for own in groups), len(groups))


def engine_of(experiment: Experiment, workers: int, directory: RunDirectory) -> Engine:
    """What the file asks for; of Ray nothing is imported unless it does."""
    run = experiment.run
    if run.engine == "local":
        from harness.execution.engines.local import LocalEngine

        return LocalEngine(workers, run.threads_per_worker, run.stall_timeout)
    if find_spec("ray") is None:
        raise ConfigError('run.engine = "ray": Ray is not installed; pip install ".[ray]"')
    from harness.execution.engines.ray import RayEngine

    return RayEngine(run, directory)


def groups_of(missing: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that one worker does, in the order in which they are begun: all of a configuration.

    A baseline's come first, one by one, since others wait for them; then what is decoded without drafts, which takes
    longest, so that no worker is left with it at the end, and which a worker that is free can decode beside them.
    """
    groups: dict[tuple[Configuration, str | None], list[Cell]] = {}
    for cell in missing:
        alone = cell.cell_id if cell.configuration.is_baseline else None
        groups.setdefault((cell.configuration, alone), []).append(cell)
    in_order = [(own[0].configuration, own) for own in groups.values()]
    return [own for _, own in sorted(in_order, key=lambda pair: (not pair[0].is_baseline, pair[0].takes_drafts))]
