"""Run an experiment file: every combination of model, library, scheme, granularity and bits, on every split.

A second run does only what is missing. Exit status: 0 all planned cells have a row, 1 some cells
failed or none could be measured, 2 something is for you to mend, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from backends import AsrQuantError, Supported, Unsupported
from harness.cell import Cell, CellStatus, Configuration
from harness.command import experiment_of, experiment_parser, run_command
from harness.config import Experiment, Model
from harness.errors import ConfigError
from harness.plan import configurations, select, twin_of, with_devices
from harness.printing import printable
from harness.report.numbers import counted
from harness.task import Task

if TYPE_CHECKING:
    from harness.engines import Engine
    from harness.identity import Resolved
    from harness.published import PublishedRun
    from harness.recording import RunDirectory

_FAILURES = (CellStatus.FAILED, CellStatus.TIMED_OUT, CellStatus.OUT_OF_MEMORY)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    return run_command(
        lambda: _run(options, console), "interrupted: finished cells are kept, and the same command does the rest"
    )


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser("python -m harness.grid", __doc__)
    parser.add_argument(
        "--dry-run", action="store_true", help="validate, print the plan and its wall time here, run nothing"
    )
    parser.add_argument("--list", action="store_true", help="print the configurations, one a line, run nothing")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time; default: one a core")
    parser.add_argument("--engine", choices=("local", "ray"), help="processes of this machine, or a Ray cluster")
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="DIR", help="take over what is finished in a published run"
    )
    parser.add_argument("--retry", action="store_true", help="try again what is recorded as not done")
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    experiment = _experiment(options)
    planned = configurations(experiment)
    chosen = select(planned, options.only) if options.only else planned
    if options.list or options.dry_run:
        shown = chosen if options.list else _looked_at(chosen, experiment)
        _print_plan(shown, experiment, console, brief=options.list)
        return 0
    return _run_planned(experiment, planned, chosen, console, source=_source(options.source), retry=options.retry)


def _looked_at(chosen: Sequence[Configuration], experiment: Experiment) -> list[Configuration]:
    """The configurations, with what speaks against them on this machine, as far as it costs nothing to find out.

    Raises:
        AsrQuantError: no model can be used, or a table or a split cannot be read.
    """
    from harness import datasets
    from harness.identity import check_local

    for data in [*experiment.data, *([experiment.calibration.data] if experiment.calibration else [])]:
        if data.root is not None:
            datasets.get(data.dataset).load(data, cached_only=True)
    refused = _refusals([c.model for c in chosen], check_local)
    no_gpu = experiment.run.engine == "local" and shutil.which("nvidia-smi") is None
    return [
        replace(c, capability=Unsupported(refused[c.model]))
        if c.model in refused
        else replace(c, capability=Unsupported("no NVIDIA driver answers on this machine; set device = cpu"))
        if c.device == "cuda" and no_gpu
        else c
        for c in chosen
    ]


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


def _source(path: Path | None) -> PublishedRun | None:
    """The published run that `--from` names."""
    from harness.published import is_published, open_published

    if path is not None and not is_published(path):
        raise ConfigError(f"--from {path}: it is not a published run; python -m harness.publish makes one")
    return None if path is None else open_published(path)


def _experiment(options: argparse.Namespace) -> Experiment:
    """The file with the command line's changes."""
    run = {"workers": options.workers, "engine": options.engine}
    return experiment_of(
        options, *(f"run.{key}={json.dumps(value)}" for key, value in run.items() if value is not None)
    )


def _print_plan(planned: Sequence[Configuration], experiment: Experiment, console: Console, *, brief: bool) -> None:
    from harness.report.estimate import time_sentence
    from harness.report.tables import plan_table

    if brief:
        for configuration in planned:
            console.print(
                f"{configuration.model.label}  {configuration.label}", markup=False, highlight=False, soft_wrap=True
            )
        return
    console.print(plan_table(planned, experiment))
    console.print(time_sentence(planned, experiment), markup=False, highlight=False, soft_wrap=True)


def _run_planned(
    experiment: Experiment,
    planned: Sequence[Configuration],
    chosen: Sequence[Configuration],
    console: Console,
    *,
    source: PublishedRun | None,
    retry: bool,
) -> int:
    """Do what is missing of `chosen`; the results list all that is finished of `planned`, for the chosen models."""
    from harness.identity import cells_of, resolve
    from harness.recording import RunDirectory
    from harness.results import make_results
    from harness.scratch import sweep

    directory = RunDirectory(Path(experiment.run.output).expanduser() / experiment.name)
    with directory.shared():
        resolved = resolve(experiment, chosen, directory.path)
        at_hand = [c for c in planned if c.model in resolved.models]
        cells = {c: cells_of(c, experiment, resolved) for c in dict.fromkeys([*at_hand, *chosen])}
        refused = _refused([cell for c in chosen for cell in cells[c]], directory, resolved)
        directory.write_experiment(with_devices(experiment).model_dump(mode="json"))
        every = [cell for own in cells.values() for cell in own]
        for wrong in directory.set_aside(cell.cell_id for cell in every):
            console.print(f"{printable(wrong)}; the cell is set aside and done again", highlight=False, markup=False)
        own = [cell for c in chosen for cell in cells[c]]
        if source is not None:
            _take_over(source, own, every, directory, console)
        before = {cell.cell_id: directory.stamp(cell.cell_id) for cell in own}
        missing = [_judged(cell, refused) for cell in own if _is_missing(cell, directory, retry=retry)]
        try:
            if missing:
                _run_missing(experiment, missing, before, _baselines(cells), directory, resolved, console)
            else:
                sweep()  # after a run that was killed when it had done all
        finally:  # also when interrupted: what is finished is in the results
            rows = make_results(directory, every)
    ids = {cell.cell_id for cell in own}
    mine = [row for row in rows if row["cell_id"] in ids]
    status = _print_results(mine, directory, console)
    others = directory.others({cell.cell_id for cell in every}, {model.label for model in resolved.models})
    if others:
        sentence = (
            f"{directory.path}: {counted(others, 'finished cell')} of other settings kept and not listed; one of "
            'another name (--set name="...") has a table of its own'
        )
        console.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)
    if mine and all(row["status"] == CellStatus.UNSUPPORTED for row in mine):  # full precision too: it is the model
        raise ConfigError(mine[0]["reason"])
    return status


def _take_over(
    source: PublishedRun, own: Sequence[Cell], every: Sequence[Cell], directory: RunDirectory, console: Console
) -> None:
    from harness.takeover import take_over

    for sentence in take_over(source, own, every, directory).sentences(str(source.path)):
        console.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)


def _refused(own: Sequence[Cell], directory: RunDirectory, resolved: Resolved) -> dict[Model, str]:
    """The models whose files say that they cannot be used, and why; of a model that is done nothing is asked.

    Raises:
        CheckpointError, CheckpointNotFoundError: there are no others.
    """
    from harness.identity import check_parts

    missing = {c.configuration.model for c in own if directory.finished(c.cell_id, CellStatus.DONE) is None}

    def check(model: Model) -> None:
        if model in missing:
            check_parts(resolved.models[model].directory)

    return _refusals([cell.configuration.model for cell in own], check)


def _judged(cell: Cell, refused: Mapping[Model, str]) -> Cell:
    """The cell; of a refused model as one that cannot be done."""
    reason = refused.get(cell.configuration.model)
    if reason is None:
        return cell
    return replace(cell, configuration=replace(cell.configuration, capability=Unsupported(reason)))


def _is_missing(cell: Cell, directory: RunDirectory, *, retry: bool) -> bool:
    stored = directory.finished(cell.cell_id)
    return stored is None or (retry and stored["status"] != CellStatus.DONE)


def _baselines(cells: Mapping[Configuration, Sequence[Cell]]) -> dict[str, str]:
    """By the id of every cell that is no baseline's itself: the full-precision cell of the same split."""
    by_place = {(c, cell.data.label): cell.cell_id for c, own in cells.items() for cell in own}
    return {
        cell.cell_id: by_place[twin_of(c), cell.data.label]
        for c, own in cells.items()
        if not c.is_baseline
        for cell in own
    }


def _run_missing(
    experiment: Experiment,
    missing: Sequence[Cell],
    before: Mapping[str, int | None],
    baselines: Mapping[str, str],
    directory: RunDirectory,
    resolved: Resolved,
    console: Console,
) -> None:
    from harness.leases import Leases
    from harness.report.progress import observing
    from harness.runner import Runner
    from harness.store import LEASES

    groups = _groups(missing)
    workers = _workers(experiment, groups)
    tasks = [
        Task.of(
            own,
            experiment,
            resolved.models[own[0].configuration.model].directory,
            directory.path,
            alone=workers == 1 and experiment.run.engine == "local",
            baselines={cell.cell_id: baselines[cell.cell_id] for cell in own if cell.cell_id in baselines},
        )
        for own in groups
    ]
    possible = [cell for cell in missing if isinstance(cell.configuration.capability, Supported)]
    utterances = sum(cell.utterances for cell in possible)
    with (
        observing(console, len(missing), utterances) as observer,
        Leases(directory.path / LEASES, experiment.run.lease_timeout) as leases,
        _engine(experiment, workers, directory) as engine,
    ):
        where = f"{len(missing)} cells to do, {engine.describe()}, into {directory.path}"
        console.print(f"{experiment.name}: {where}", highlight=False)
        Runner(directory, leases, engine, observer, before).run(tasks)


def _workers(experiment: Experiment, groups: Sequence[Sequence[Cell]]) -> int:
    from harness.batching import default_workers

    return min(experiment.run.workers or default_workers(own[0].configuration.device for own in groups), len(groups))


def _engine(experiment: Experiment, workers: int, directory: RunDirectory) -> Engine:
    """What the file asks for; of Ray nothing is imported unless it does."""
    run = experiment.run
    if run.engine == "local":
        from harness.engines.local import LocalEngine

        return LocalEngine(workers, run.threads_per_worker, run.stall_timeout)
    if find_spec("ray") is None:
        raise ConfigError('run.engine = "ray": Ray is not installed; pip install "asrquant[ray]"')
    from harness.engines.ray import RayEngine

    return RayEngine(run, directory)


def _groups(missing: Sequence[Cell]) -> list[list[Cell]]:
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


def _print_results(rows: Sequence[dict[str, Any]], directory: RunDirectory, console: Console) -> int:
    """Print the tables; the exit status."""
    from harness.report.tables import remarks, results_table, unfinished_table

    console.print(results_table(rows))
    for remark in remarks(rows):
        console.print(printable(remark), highlight=False, markup=False, soft_wrap=True)
    unfinished = unfinished_table(rows)
    if unfinished is not None:
        console.print(unfinished)
    console.print(f"{directory.path / 'results.csv'}: {counted(len(rows), 'row')}", highlight=False)
    asked = [row for row in rows if row["backend"] != "none"] or rows
    measured = sum(row["status"] == CellStatus.DONE for row in asked)
    if not measured:
        console.print(f"0 of {counted(len(asked), 'cell')} measured, full precision aside", highlight=False)
    return 1 if not measured or any(row["status"] in _FAILURES for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
