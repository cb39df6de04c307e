"""Times of every configuration beside its baseline, one at a time: what may be timed, what may stand in one table."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from backends import Form, Unsupported
from harness._printing import printable
from harness.cost import environment, gpu, processor_mhz
from harness.errors import ConfigError
from harness.execution.processes import fork_server, start
from harness.execution.task import Ended, Task, TimingTask
from harness.experiment.cell import Cell, CellStatus, Configuration, hash_of
from harness.experiment.config import Experiment
from harness.experiment.plan import baseline_of
from harness.recognition.loading import inspect_checkpoint
from harness.records.batch_size import settled
from harness.records.recording import RunDirectory
from harness.records.results import result_rows
from harness.resolution.identity import Resolved, cells_of, resolve

_SIMULATED = "simulated"
_WHOLE = "whole transcriptions only"
_BUSY = 0.5
"""Load average of the last minute above which a warning is due: an idle machine stays below."""
_SPREAD = 0.1
"""Distance of a ratio's quartiles, or change of the processor's frequency, relative, above which a time is unstable."""
_MACHINE = ("processor", "instructions", "gpu", "packages")
"""Keys of an environment that times depend on."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """One call of the command.

    Attributes:
        experiment: whose configurations are timed, on speech of its first split: four utterances of lengths that stand
            for all, one by one, and the middle one of its batches.
        directory: where `latency.json` is kept.
        threads: of torch, and of engines.
        repeats, warmup, alone: see `TimingTask`.
    """

    experiment: Experiment
    directory: RunDirectory
    threads: int
    repeats: int
    warmup: int
    alone: bool

    def run(
        self, planned: Sequence[Configuration], chosen: Sequence[Configuration], say: Callable[[str], None]
    ) -> list[Row]:
        """Time `chosen` and record each as it ends, which is said in a line; the rows of this call.

        Raises:
            ConfigError: what was timed before is of another machine, other speech or decoding, and cannot stand beside.
        """
        resolved = resolve(self.experiment, chosen, partial(settled, self.directory.path))
        for model in resolved.models.values():
            inspect_checkpoint(model.directory, self.experiment.decoding)
        cells = {c: cells_of(c, self.experiment, resolved) for c in planned if c.model in resolved.models}
        self._check_earlier(self._about(cells))
        load = os.getloadavg()
        if load[0] > _BUSY:
            say(f"warning: the load average is {load[0]:.2f}: what else is running disturbs the times")
        done: list[Row] = []
        try:
            for configuration, rows in self._timed(chosen, cells, resolved, load[0]):
                done += rows
                self._record(rows, load[0], self._about(cells))
                say(_line(configuration, rows))
        finally:  # also when interrupted: what is timed is in the results
            finished = result_rows(self.directory, [cell for own in cells.values() for cell in own])
            if finished:
                self.directory.write_results(finished)
        return done

    def _timed(
        self, chosen: Sequence[Configuration], cells: dict[Configuration, list[Cell]], resolved: Resolved, load: float
    ) -> Iterator[tuple[Configuration, list[Row]]]:
        """Every configuration with its rows; one that cannot be timed has one row, without a measure."""
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
                child = start(context, _enter_worker, TimingTask(task, self.repeats, self.warmup, self.alone))
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
