"""Run an experiment file: every combination of model, library, scheme, granularity and bits, on every split.

A second run does only what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from backends import Supported
from harness._command import experiment_of, experiment_parser, run_command
from harness._printing import counted, printable
from harness.errors import ConfigError
from harness.execution.preparation import (
    Prepared,
    engine_of,
    groups_of,
    is_missing,
    looked_at,
    prepared,
    workers_of,
)
from harness.experiment.cell import Cell, CellStatus, Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import configurations, select
from harness.report.tracking import check_tracker, track

if TYPE_CHECKING:
    from harness.records.published import PublishedRun
    from harness.records.recording import RunDirectory

_FAILURES = (CellStatus.FAILED, CellStatus.TIMED_OUT, CellStatus.OUT_OF_MEMORY)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    return run_command(
        lambda: _run(options, console), "interrupted: finished cells are kept, and the same command does the rest"
    )


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(
        "harness.grid",
        __doc__,
        [
            "embedded",
            "experiments/whisper_small.toml --dry-run",
            'mine.toml --only "backend=hqq,bits=4|3" --limit 100 --set decoding.batch_size=8',
        ],
        done="all planned cells have a row",
        failed="some cells failed, or none could be measured",
    )
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
    parser.add_argument(
        "--track", metavar="PROJECT", help="log what is finished to a project of trackio, on this machine"
    )
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    experiment = _experiment(options)
    planned = configurations(experiment)
    chosen = planned if options.only is None else select(planned, options.only)
    source = _source(options.source)
    if options.list or options.dry_run:
        shown = chosen if options.list else looked_at(chosen, experiment)
        _print_plan(shown, experiment, console, brief=options.list)
        return 0 if options.list or any(isinstance(c.capability, Supported) for c in shown) else 2
    if options.track is not None:
        check_tracker()
    return _run_planned(experiment, planned, chosen, console, source=source, retry=options.retry, project=options.track)


def _source(path: Path | None) -> PublishedRun | None:
    """The published run that `--from` names."""
    from harness.records.published import is_published, open_published

    if path is not None and not is_published(path):
        raise ConfigError(f"--from {path}: it is not a published run; python -m harness.publish makes one")
    return None if path is None else open_published(path)


def _experiment(options: argparse.Namespace) -> Experiment:
    """The file with the command line's changes."""
    if options.workers is not None and options.workers < 0:
        raise ConfigError(f"--workers is {options.workers}; it must be at least 0, which is one a core")
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
    project: str | None,
) -> int:
    """Do what is missing of `chosen`; the results list all that is finished of `planned`, for the chosen models.

    Where there is a project of a tracker, what is finished of `chosen` is logged to it.
    """
    from harness.records.results import make_results
    from harness.records.scratch import sweep

    with prepared(experiment, planned, chosen) as run:
        directory, own = run.directory, run.own
        for wrong in run.damaged:
            console.print(f"{printable(wrong)}; the cell is set aside and done again", highlight=False, markup=False)
        if source is not None:
            _take_over(source, own, run.every, directory, console)
        before = {cell.cell_id: directory.stamp(cell.cell_id) for cell in own}
        missing = [run.judged(cell) for cell in own if is_missing(cell, directory, experiment.run.stop, retry=retry)]
        try:
            if missing:
                _run_missing(run, missing, before, console)
            else:
                sweep()  # after a run that was killed when it had done all
        finally:  # also when interrupted: what is finished is in the results
            rows = make_results(directory, run.every)
    ids = {cell.cell_id for cell in own}
    mine = [row for row in rows if row["cell_id"] in ids]
    status = _print_results(mine, directory, console)
    if project is not None:
        console.print(f"{counted(track(mine, project), 'configuration')} logged to trackio's {printable(project)}")
    models = {model.label for model in run.resolved.models}
    if others := directory.others({cell.cell_id for cell in run.every}, models):
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
    from harness.execution.takeover import take_over

    for sentence in take_over(source, own, every, directory).sentences(str(source.path)):
        console.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)


def _run_missing(run: Prepared, missing: Sequence[Cell], before: Mapping[str, int | None], console: Console) -> None:
    from harness.execution.runner import Runner
    from harness.records.layout import LEASES
    from harness.records.leases import Leases
    from harness.report.progress import observing

    experiment, directory = run.experiment, run.directory
    workers = workers_of(experiment, groups_of(missing))
    possible = [cell for cell in missing if isinstance(cell.configuration.capability, Supported)]
    utterances = sum(cell.utterances for cell in possible)
    with (
        observing(console, len(missing), utterances) as observer,
        Leases(directory.path / LEASES, experiment.run.lease_timeout) as leases,
        engine_of(experiment, workers, directory) as engine,
    ):
        where = f"{counted(len(missing), 'cell')} to do, {engine.describe()}, into {directory.path}"
        console.print(f"{experiment.name}: {where}", highlight=False)
        Runner(directory, leases, engine, observer, before).run(run.tasks(missing, workers))


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
    measured = sum(row["status"] in (CellStatus.DONE, CellStatus.STOPPED) for row in asked)
    if not measured:
        aside = ", full precision aside" if len(asked) < len(rows) else ""
        console.print(f"0 of {counted(len(asked), 'cell')} measured{aside}", highlight=False)
    return 1 if not measured or any(row["status"] in _FAILURES for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
