"""Search an experiment's grid: the most accurate configuration under a size, or the smallest under a loss.

Configurations race: all on a few speakers, those still possible on twice as many, until the winner is decided or the
test set is used up. The experiment needs decoding.batches = "speakers"; its grid goes on from what was transcribed.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from backends import Supported
from harness._command import experiment_of, experiment_parser, run_command
from harness._printing import counted, printable
from harness.errors import ConfigError
from harness.execution.preparation import Prepared, prepared
from harness.experiment.cell import Cell, Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import configurations, select
from harness.experiment.tables import Data

if TYPE_CHECKING:
    from harness.execution.racing import Racing
    from harness.execution.searching import Wanted

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    return run_command(
        lambda: _run(options, shlex.join(given), console),
        "interrupted: what is transcribed is kept, and the same command goes on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(
        "harness.search",
        __doc__,
        [
            "mine.toml --max-size 60MB",
            "mine.toml --max-loss 1.0 --save my-whisper-small-enough",
            "embedded --max-size 5MB --data clean --set decoding.batches=speakers",
        ],
        done="there is a winner",
        failed="nothing is possible, or some configurations failed",
    )
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--max-size", metavar="SIZE", help="the most accurate of at most this size, such as 60MB")
    goal.add_argument(
        "--max-loss",
        type=float,
        metavar="POINTS",
        help="the smallest whose WER is at most so much beyond the baseline's",
    )
    parser.add_argument("--data", metavar="NAME", help="test set, where the file has several")
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="P", help="of the whole search; default: 0.95"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.3, metavar="POINTS", help="of WER that do not matter; default: 0.3"
    )
    parser.add_argument("--save", type=Path, metavar="DIR", help="save the winner's model there")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time; default: one a core")
    parser.add_argument("--retry", action="store_true", help="try again what is recorded as not done")
    return parser


def _run(options: argparse.Namespace, given: str, console: Console) -> int:
    wanted = _wanted(options)
    changes = [] if options.workers is None else [f"run.workers={options.workers}"]
    experiment = experiment_of(options, *changes)
    data = _data(experiment, options)
    planned = configurations(experiment)
    chosen = planned if options.only is None else select(planned, options.only)
    _check_searchable(experiment, chosen, options)
    with prepared(experiment, planned, chosen) as run:
        for wrong in run.damaged:
            console.print(f"{printable(wrong)}; the cell is set aside and done again", markup=False)
        status, winner = _searched(run, data, wanted, console, retry=options.retry)
        if winner is not None and options.save is not None:
            _save(run, winner, options.save, console)
    if winner is not None and options.save is None:
        place = shlex.quote(f"{experiment.name}-winner")
        console.print(f"save it: python -m harness.search {given} --save {place}", markup=False, soft_wrap=True)
    return status


def _wanted(options: argparse.Namespace) -> Wanted:
    """What is asked for; refuses numbers that mean nothing, and a place to save to that is taken, before any work."""
    from harness.execution.searching import Wanted

    if not 0.5 <= options.confidence < 1:
        raise ConfigError(f"--confidence is {options.confidence:g}; it must be at least 0.5 and below 1")
    for flag in ("max_loss", "tolerance"):
        value = getattr(options, flag)
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"--{flag.replace('_', '-')} is {value:g}; it must be a number of points, at least 0")
    if options.workers is not None and options.workers < 0:
        raise ConfigError(f"--workers is {options.workers}; it must be at least 0, which is one a core")
    place: Path | None = options.save
    if place is not None and place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise ConfigError(f"--save {place}: there is something already; name a new directory")
    largest = None if options.max_size is None else _bytes(options.max_size)
    limit = None if options.max_loss is None else options.max_loss / 100
    return Wanted(largest, limit, options.confidence, options.tolerance / 100)


def _bytes(text: str) -> int:
    """A size such as `60MB` or `1.5 GiB` in bytes."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMG]i?B)", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError(f"--max-size {text}: write a number with its unit, such as 60MB or 1.5GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _data(experiment: Experiment, options: argparse.Namespace) -> Data:
    names = [data.label for data in experiment.data]
    if options.data is None and len(names) > 1:
        raise ConfigError(f"{options.file}: there are {len(names)} test sets; choose with --data {' or '.join(names)}")
    if options.data is not None and options.data not in names:
        raise ConfigError(f"--data {options.data}: the experiment has {', '.join(names)}")
    return experiment.data[0 if options.data is None else names.index(options.data)]


def _check_searchable(experiment: Experiment, chosen: Sequence[Configuration], options: argparse.Namespace) -> None:
    if experiment.decoding.batches != "speakers":
        raise ConfigError(
            f'{options.file}: a search goes from speaker to speaker: set decoding.batches = "speakers", which is '
            f'"{experiment.decoding.batches}"'
        )
    if experiment.run.engine != "local":
        raise ConfigError(f'run.engine is "{experiment.run.engine}": a search runs on this machine: set it to "local"')
    models = list(dict.fromkeys(configuration.model.label for configuration in chosen))
    if len(models) > 1:
        raise ConfigError(
            f"{options.file}: there are {len(models)} models, {', '.join(models)}, and a search is of one: "
            f'choose with --only "model={models[0]}"'
        )
    if all(configuration.is_baseline for configuration in chosen):
        raise ConfigError(f"{options.file}: there is full precision alone; name configurations to choose from")


def _searched(run: Prepared, data: Data, wanted: Wanted, console: Console, *, retry: bool) -> tuple[int, Cell | None]:
    """Race, and print how it goes; the exit status, and the winner's cell."""
    from harness.execution.racing import racing
    from harness.execution.searching import search
    from harness.records.results import make_results
    from harness.report.progress import observing
    from harness.report.race import outcome, round_sentence

    try:
        with racing(run, data, partial(observing, console), retry=retry) as cells:
            say = partial(console.print, markup=False, soft_wrap=True)
            say(_plan(run, cells, wanted, data))
            found = search(cells, wanted, lambda one: say(round_sentence(one, cells, wanted)))
            for said in outcome(found, cells, wanted):
                say(said)
    finally:  # also when interrupted: what is finished is in the results
        make_results(run.directory, run.every)
    return int(not found.whole), None if found.winner is None else cells.cells[found.winner]


def _plan(run: Prepared, cells: Racing, wanted: Wanted, data: Data) -> str:
    from harness.execution.searching import candidates_of

    count = len(candidates_of(cells, wanted))
    impossible = sum(not isinstance(c.capability, Supported) for c in run.chosen)
    aside = f", {impossible} more cannot be done here (python -m harness.grid --dry-run says why)" if impossible else ""
    speakers = "speakers" if cells.known else "utterances, since speakers are not known"
    rounds = f"{', '.join(map(str, cells.stages))} {speakers}"
    return (
        f"{run.experiment.name} on {data.label}: {counted(count, 'configuration')}{aside}; "
        f"rounds of {rounds}; into {run.directory.path}"
    )


def _save(run: Prepared, winner: Cell, place: Path, console: Console) -> None:
    from harness.execution.saving import save

    save(run, winner, place)
    console.print(f"{place}: saved; python -m harness.transcribe {shlex.quote(str(place))} speech.wav", markup=False)


if __name__ == "__main__":
    sys.exit(main())
