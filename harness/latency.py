"""Time every configuration of an experiment beside its baseline, one at a time, with nothing else running.

Writes runs/<name>/latency.json and, where the experiment has results, the ratios into them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backends import Form, Unsupported
from harness._command import experiment_of, experiment_parser, run_command
from harness._printing import counted, printable
from harness.errors import ConfigError
from harness.execution.task import Ended, Task, TimingTask
from harness.experiment.cell import Cell, CellStatus, Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import baseline_of, configurations, select

if TYPE_CHECKING:
    from harness.records.recording import RunDirectory
    from harness.resolution.identity import Resolved

_FAILURES = (CellStatus.FAILED, CellStatus.TIMED_OUT, CellStatus.OUT_OF_MEMORY)
_SIMULATED = "simulated"
_WHOLE = "whole transcriptions only"
_BUSY = 0.5
"""Load average of the last minute above which a warning is due: an idle machine stays below."""
_SPREAD = 0.1
"""Distance of a ratio's quartiles, or change of the processor's frequency, relative, above which a time is unstable."""
_MACHINE = ("processor", "instructions", "gpu", "packages")
"""Keys of an environment that times depend on."""
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
        ["embedded", 'mine.toml --only "backend=quanto" --repeats 20', "mine.toml --threads 1 2"],
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
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
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
    with directory.held():
        rows = []
        for count in threads:
            rows += Timing(experiment, directory, count, options.repeats, options.warmup).run(planned, chosen, console)
    if rows and all(row["status"] == CellStatus.UNSUPPORTED for row in rows):
        raise ConfigError(rows[0]["reason"])
    for count in threads:
        console.print(_table(chosen, [row for row in rows if row["threads"] == count], count))
    for row in rows:
        if row.get("unstable"):
            console.print(
                f"warning: {row['configuration']}, {row['measure']}: {row['unstable']}; time it again", highlight=False
            )
    console.print(f"{directory.path / 'latency.json'}: ratios to full precision", highlight=False)
    return 1 if any(row["status"] in _FAILURES for row in rows) else 0


@dataclass(frozen=True)
class Timing:
    """One call of the command.

    Attributes:
        experiment: whose configurations are timed, on speech of its first split: four utterances of lengths that stand
            for all, one by one, and the middle one of its batches.
        directory: where `latency.json` is kept.
        threads: of torch, and of engines.
        repeats, warmup: see `TimingTask`.
    """

    experiment: Experiment
    directory: RunDirectory
    threads: int
    repeats: int
    warmup: int

    def run(self, planned: Sequence[Configuration], chosen: Sequence[Configuration], console: Console) -> list[Row]:
        """Time `chosen` and record each as it ends; the rows of this call.

        Raises:
            ConfigError: what was timed before is of another machine, other speech or decoding, and cannot stand beside.
        """
        from harness.recognition.loading import inspect_checkpoint
        from harness.records.batch_size import settled
        from harness.records.results import result_rows
        from harness.resolution.identity import cells_of, resolve

        resolved = resolve(self.experiment, chosen, partial(settled, self.directory.path))
        for model in resolved.models.values():
            inspect_checkpoint(model.directory, self.experiment.decoding)
        cells = {c: cells_of(c, self.experiment, resolved) for c in planned if c.model in resolved.models}
        self._check_earlier(self._about(cells))
        load = os.getloadavg()
        if load[0] > _BUSY:
            console.print(f"warning: the load average is {load[0]:.2f}: what else is running disturbs the times")
        done: list[Row] = []
        try:
            for configuration, rows in self._timed(chosen, cells, resolved, load[0]):
                done += rows
                self._record(rows, load[0], self._about(cells))
                console.print(_line(configuration, rows), markup=False, highlight=False)
        finally:  # also when interrupted: what is timed is in the results
            finished = result_rows(self.directory, [cell for own in cells.values() for cell in own])
            if finished:
                self.directory.write_results(finished)
        return done

    def _timed(
        self, chosen: Sequence[Configuration], cells: dict[Configuration, list[Cell]], resolved: Resolved, load: float
    ) -> Iterator[tuple[Configuration, list[Row]]]:
        """Every configuration with its rows; one that cannot be timed has one row, without a measure."""
        from harness.cost import processor_mhz
        from harness.execution.processes import fork_server, start

        with fork_server(self.threads) as context:
            for configuration in chosen:
                refused = _refusal(configuration)
                if refused is not None:
                    yield configuration, [self._row(configuration, *refused)]
                    continue
                model = resolved.models[configuration.model].directory
                task = Task.of(cells[configuration][:1], self.experiment, model, self.directory.path)
                task = dataclasses.replace(task, threads=self.threads)
                frequency = processor_mhz()
                child = start(context, _enter_worker, TimingTask(task, self.repeats, self.warmup))
                timed, end = child.events(self.experiment.run.stall_timeout, "no measure")
                measured = [event.row for event in timed]
                about = (load, frequency, processor_mhz())
                rows = [
                    self._row(configuration, CellStatus.DONE, "", {**row, "unstable": _unstable(row, *about)})
                    for row in measured
                ]
                yield configuration, rows + self._left_out(configuration, end)

    def _left_out(self, configuration: Configuration, end: Ended) -> list[Row]:
        """A row without a measure for what could not be timed, where there is such."""
        if end.status is not CellStatus.DONE:
            return [self._row(configuration, end.status, end.reason)]
        if configuration.form is Form.GENERATOR:
            return [self._row(configuration, _WHOLE, "nothing in this engine's model can be called by itself")]
        return []

    def _row(self, configuration: Configuration, status: str, reason: str, measured: Row | None = None) -> Row:
        return {
            "configuration_id": configuration.id,
            "configuration": configuration.label,
            "baseline_id": baseline_of(configuration).id,
            "model": configuration.model.label,
            "status": str(status),
            "reason": printable(reason.partition("\n")[0]),
            "threads": self.threads,
            "repeats": self.repeats,
            "warmup": self.warmup,
            "data": f"{self.experiment.data[0].dataset}/{self.experiment.data[0].split}",
            **(measured or {"measure": None}),
        }

    def _check_earlier(self, about: Row) -> None:
        """Times of two machines, of other software, speech or decoding are not put into one table."""
        earlier = self.directory.latency()
        machines = [{key: one.get("environment", {}).get(key) for key in _MACHINE} for one in (earlier, about)]
        speech, decoding = ([one.get(key) for one in (earlier, about)] for key in ("speech", "decoding"))
        for what, (old, own) in (
            ("on another machine", machines),
            ("on other speech", speech),
            ("otherwise", decoding),
        ):
            if earlier and old != own:
                raise ConfigError(
                    f"{self.directory.path / 'latency.json'}: was timed {what} ({_differing(old, own)}), and times are "
                    "compared in one table: remove it and time all again, or name another directory with --out"
                )

    def _about(self, cells: Mapping[Configuration, Sequence[Cell]]) -> dict[str, Any]:
        """What all times of a table have in common; the speech is the first test set in its batches."""
        from harness.cost import environment, gpu
        from harness.experiment.cell import hash_of

        identity = next(iter(cells.values()))[0].identity
        return {
            "environment": environment(self.threads, shlex.join(sys.argv)) | {"gpu": gpu()},
            "decoding": self.experiment.decoding.model_dump(mode="json"),
            "speech": hash_of([identity["data"], identity["batches"]]),
        }

    def _record(self, rows: Sequence[Row], load: float, about: Row) -> None:
        """Put the rows of one configuration in the place of its earlier ones with as many threads."""
        timed = {(row["configuration_id"], row["threads"]) for row in rows}
        earlier = self.directory.latency().get("rows", [])
        kept = [row for row in earlier if (row["configuration_id"], row["threads"]) not in timed]
        new = [{**row, "load_at_start": load} for row in rows]
        self.directory.write_latency({**about, "rows": [*kept, *new]})


def _differing(old: object, new: object, name: str = "it") -> str:
    """What there was and is; of tables, only the keys that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return "; ".join(
            _differing(old.get(key), new.get(key), key) for key in sorted({*old, *new}) if old.get(key) != new.get(key)
        )
    return f"{name} was {old!r} and is {new!r}"


def _refusal(configuration: Configuration) -> tuple[str, str] | None:
    """Status and reason of a configuration of which no time may be claimed."""
    answer = configuration.capability
    if isinstance(answer, Unsupported):
        return CellStatus.UNSUPPORTED, answer.reason
    return (_SIMULATED, answer.note or "computes in float on rounded values") if answer.simulated else None


def _unstable(measured: Row, load: float, before: float | None, after: float | None) -> str:
    """Why a measure should be taken again, empty where nothing speaks against it.

    Args:
        measured: with the quartiles of the pairs' ratio.
        load: average of the minute before timing began.
        before, after: MHz of the processor, `None` where it does not say.
    """
    lower, median, upper = (measured[f"ratio_{name}"] for name in ("lower_quartile", "median", "upper_quartile"))
    reasons = []
    if upper - lower > _SPREAD * median:
        reasons.append(f"the middle half of the pairs spans {(upper - lower) / median:.0%} of their median ratio")
    if load > _BUSY:
        reasons.append(f"the load average was {load:.2f} when timing began")
    if before and after and abs(after - before) > _SPREAD * before:
        reasons.append(f"the processor went from {before:.0f} to {after:.0f} MHz")
    return "; ".join(reasons)


def _enter_worker(task: TimingTask, channel: Connection) -> None:
    from harness.execution import worker

    worker.compare(task, channel)


def _line(configuration: Configuration, rows: Sequence[Row]) -> str:
    last = rows[-1]
    return f"{configuration.label}: {last['status']}" + (f": {last['reason']}" if last["reason"] else "")


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
