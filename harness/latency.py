"""Time every configuration of an experiment beside its baseline, one at a time, with nothing else running.

Writes runs/<name>/latency.json and, where the experiment has results, the ratios into them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness._command import experiment_of, experiment_parser, run_command
from harness._printing import counted
from harness.errors import ConfigError
from harness.experiment.cell import CellStatus, Configuration
from harness.experiment.plan import configurations, select

_FAILURES = (CellStatus.FAILED, CellStatus.TIMED_OUT, CellStatus.OUT_OF_MEMORY)
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    return run_command(lambda: _run(options, console), "interrupted: what is timed is kept; --only names the rest")


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(
        "harness.latency",
        __doc__,
        ["embedded", 'mine.toml --only "backend=quanto" --repeats 20', "mine.toml --threads 1 2 --alone"],
        done="all is timed that can be",
        failed="some failed",
    )
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="pairs that are timed; default: 10")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        metavar="N",
        help="threads, one number after another; default: the experiment's",
    )
    parser.add_argument("--warmup", type=int, default=2, metavar="N", help="pairs before that; default: 2")
    parser.add_argument("--alone", action="store_true", help="one utterance at a time, and no batches")
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    from harness.execution.latency import Timing
    from harness.records.recording import RunDirectory

    if options.repeats < 1 or options.warmup < 0:
        raise ConfigError("--repeats must be at least 1, and --warmup at least 0")
    experiment = experiment_of(options)
    threads = list(dict.fromkeys(options.threads or [experiment.run.threads_per_worker]))
    if min(threads) < 1:
        raise ConfigError("--threads must be at least 1")
    planned = configurations(experiment)
    chosen = [c for c in (planned if options.only is None else select(planned, options.only)) if not c.is_baseline]
    if not chosen:
        where = f"--only {options.only}" if options.only else str(options.file)
        raise ConfigError(f"{where}: there is full precision alone, which the others are timed beside; name others")
    directory = RunDirectory(Path(experiment.run.output).expanduser() / experiment.name)
    say = partial(console.print, markup=False, highlight=False)
    with directory.held():
        rows = []
        for count in threads:
            timing = Timing(experiment, directory, count, options.repeats, options.warmup, options.alone)
            rows += timing.run(planned, chosen, say)
    if rows and all(row["status"] == CellStatus.UNSUPPORTED for row in rows):
        raise ConfigError(rows[0]["reason"])
    for count in threads:
        console.print(_table(chosen, [row for row in rows if row["threads"] == count], count))
    for row in rows:
        if row.get("unstable"):
            say(f"warning: {row['configuration']}, {row['measure']}: {row['unstable']}; time it again")
    say(f"{directory.path / 'latency.json'}: ratios to full precision")
    return 1 if any(row["status"] in _FAILURES for row in rows) else 0


def _table(chosen: Sequence[Configuration], rows: Sequence[Row], threads: int) -> Table:
    """Ratios to the baseline: times, where below 1 is faster, and rtfx, where above 1 is; then seconds an utterance."""
    from harness.records.results import LATENCY

    title = f"{counted(threads, 'thread')}: quantized / full precision (times: below 1 is faster; rtfx: above 1)"
    table = Table(title=title, title_justify="left")
    table.add_column("configuration", overflow="fold")
    for measure in LATENCY:
        table.add_column(measure.replace("_", " "), justify="right")
    for configuration in chosen:
        own = {row["measure"]: row for row in rows if row["configuration_id"] == configuration.id}
        ratios = [f"{own[measure]['ratio_median']:.2f}" if measure in own else "" for measure in LATENCY]
        note = f" ({own[None]['status']})" if None in own else ""
        table.add_row(escape(configuration.label + note), *ratios)
    return table


if __name__ == "__main__":
    sys.exit(main())
