"""Check a run: compute every score and statistic again from the transcripts, and transcribe some of it again.

Of a published run files, ids, scores and statistics are checked; it has neither models nor speech.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from backends import AsrQuantError
from backends.core.commands import command_parser
from harness._command import run_command
from harness._printing import counted, printable
from harness.errors import ConfigError, OutputError
from harness.execution.task import Ended, Replayed, ReplayTask, Task
from harness.experiment.cell import Cell, CellStatus, Configuration, id_of
from harness.experiment.config import Experiment
from harness.experiment.planned import planned_cells
from harness.experiment.tables import Data
from harness.records.asked import recorded_experiment
from harness.records.files import damage
from harness.records.published import CHECKSUMS, PublishedRun, is_published
from harness.records.reading import RecordedRun, missing, open_run
from harness.records.recomputed import close, differing_results
from harness.report.unfinished import unfinished_sentence

if TYPE_CHECKING:
    from harness.datasets import Utterance
    from harness.resolution.identity import Resolved

Row = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options, Console(width=200, highlight=False, markup=False)))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "harness.verify",
        __doc__,
        ["runs/embedded", "runs/embedded --again 20", "experiments/results/study_base"],
        done="all is as it was recorded",
        failed="something is not",
    )
    parser.add_argument("run", type=Path, help="directory of a run, or of a published one")
    parser.add_argument(
        "--again", type=int, default=3, metavar="N", help="planned batches transcribed again; default: 3"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw of these; default: 0")
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.again < 0 or options.seed < 0:
        raise ConfigError("--again and --seed must be at least 0")
    wrong = damage(options.run / CHECKSUMS) if is_published(options.run) else None
    if wrong is not None:  # the command found it: a published run that was changed is not refused here
        console.print(f"{printable(wrong)}\n0 cells, 0 batches transcribed again: 1 difference", soft_wrap=True)
        return 1
    run = open_run(options.run)
    check = Verification(run, recorded_experiment(run))
    found = 0
    for finding in check.findings(options.again, np.random.default_rng(options.seed)):
        found += 1
        console.print(printable(finding), soft_wrap=True)
    for remark in check.remarks:
        console.print(f"not checked: {printable(remark)}", soft_wrap=True)
    if places := missing(run):
        console.print(printable(unfinished_sentence(run, places)), soft_wrap=True)
    what = counted(found, "difference") if found else "all as recorded"
    again = counted(check.transcribed_again, "batch", "batches")
    console.print(f"{counted(len(check.cells), 'cell')}, {again} transcribed again: {what}")
    return 1 if found else 0


class Verification:
    """One call of the command.

    Attributes:
        cells: of the experiment, as they are recorded, whatever is installed now.
        remarks: what could not be checked, and why.
        transcribed_again: batches that were.
    """

    def __init__(self, run: RecordedRun, experiment: Experiment) -> None:
        self._run, self._experiment = run, experiment
        self._rows = run.results()
        self._resolved: Resolved | None = None
        self.remarks: list[str] = []
        self.transcribed_again = 0
        self._broken: dict[str, str] = {}
        self.cells = list(self._recorded())

    def findings(self, again: int, rng: np.random.Generator) -> Iterator[str]:
        """Everything that is not as it should be, a sentence each."""
        yield from self._broken.values()
        self._resolved = self._resolve()
        for cell in self.cells:
            yield from self._of_cell(cell)
        if not self._broken:
            yield from differing_results(self._run, self._rows, self.cells)
        yield from self._of_replay(again, rng)

    def _recorded(self) -> Iterator[Cell]:
        """The planned cells that the results list, whole ones only."""
        planned = {(c.id, data.label): (c, data) for c, data in planned_cells(self._experiment)}
        for row in self._rows:
            place = (row["configuration_id"], row["split"])
            if place not in planned:
                where = f"{row['configuration']} on {row['split']}"
                self._broken[row["cell_id"]] = f"results.parquet: {where}: experiment.json has no such cell"
                continue
            wrong = self._run.damage(row["cell_id"])
            try:
                content = None if wrong else self._run.finished(row["cell_id"])
            except OutputError as error:
                wrong, content = str(error), None
            if content is None:
                self._broken[row["cell_id"]] = wrong or f"{self._run.path}: the cell {row['cell_id']} is missing"
                continue
            yield Cell(*planned[place], content.get("identity", {}), row["cell_id"], ())

    def _resolve(self) -> Resolved | None:
        """Models and speech, where they are at hand."""
        from harness.records.batch_size import settled
        from harness.resolution.identity import resolve

        if isinstance(self._run, PublishedRun):
            self.remarks.append("models and speech were not looked at: a published run is checked by itself")
            if self._run.dropped:
                self.remarks.append(f"what follows from {', '.join(self._run.dropped)}, which were not published")
            return None
        chosen = list(dict.fromkeys(cell.configuration for cell in self.cells))
        try:
            return resolve(self._experiment, chosen, partial(settled, self._run.path))
        except AsrQuantError as error:
            self.remarks.append(f"models and speech: {error}")
            return None

    def _of_cell(self, cell: Cell) -> Iterator[str]:
        where = f"{cell.configuration.label} on {cell.data.label} ({cell.cell_id})"
        stored = self._run.finished(cell.cell_id)
        assert stored is not None
        if id_of(cell.identity) != cell.cell_id:
            yield f"{where}: its identity does not have this id"
        if stored.get("configuration_id") != cell.configuration.id or stored.get("split") != cell.data.label:
            yield f"{where}: cell.json is of {stored.get('configuration')} on {stored.get('split')}"
        yield from (f"{where}: {text}" for text in self._of_inputs(cell))
        # the scores of a published run are computed when it is read: they are checked by the results that they give
        if stored["status"] == CellStatus.DONE and not isinstance(self._run, PublishedRun):
            yield from (f"{where}: {text}" for text in self._of_utterances(cell))

    def _of_inputs(self, cell: Cell) -> Iterator[str]:
        """Whether model and speech are still what was measured."""
        if self._resolved is None or "model" not in cell.identity:
            return
        model = self._resolved.models[cell.configuration.model]
        if model.revision != cell.identity["model"]["revision"]:
            yield (
                f"the model {cell.configuration.model.label} is another one now: {model.revision}, "
                f"and it was {cell.identity['model']['revision']}"
            )
        corpus = self._resolved.corpora[cell.data]
        if corpus.revision != cell.identity["data"]["revision"]:
            yield (
                f"the speech of {cell.data.label} is another now: {corpus.revision}, "
                f"and it was {cell.identity['data']['revision']}"
            )

    def _of_utterances(self, cell: Cell) -> Iterator[str]:
        rows = [*self._run.utterances(cell.cell_id), *self._run.undecodable(cell.cell_id)]
        scorer, decode = self._run.scorer(cell.data.label), self._decoder(cell)
        speech = self._speech(cell.data)
        if speech is not None and {row["id"] for row in rows} != set(speech):
            yield "its utterances are not those of the corpus"
        for row in rows:
            expected = scorer.scores(row["reference"], row["hypothesis"], row.get("language"))
            wrong = [key for key, value in expected.items() if row[key] != value]
            if speech is not None and row["id"] in speech and speech[row["id"]].text != row["reference"]:
                wrong.append("reference")
            if decode is not None and not row["error"] and decode(row["tokens"]) != row["hypothesis"]:
                wrong.append("hypothesis, which its tokens do not say,")
            if wrong:
                yield f"utterance {row['id']}: {', '.join(dict.fromkeys(wrong))} is not what follows from the rest"

    def _decoder(self, cell: Cell) -> Any:
        """From tokens to text, where tokens say all: not where audio was decoded window after window."""
        if self._resolved is None or self._experiment.decoding.long_audio != "truncate":
            return None
        return decoder(self._resolved.models[cell.configuration.model].directory)

    def _speech(self, data: Data) -> dict[str, Utterance] | None:
        return None if self._resolved is None else {u.id: u for u in self._resolved.corpora[data].utterances}

    def _of_replay(self, again: int, rng: np.random.Generator) -> Iterator[str]:
        """Hear some planned batches again, drawn from all cells that are done and can be repeated here."""
        from harness.execution.processes import fork_server, start

        batches = self._drawn(again, rng)
        if not batches:
            return
        with fork_server(self._experiment.run.threads_per_worker) as context:
            for configuration, own in batches.items():
                task = self._task(configuration, [cell for cell, _ in own])
                indices: dict[str, list[int]] = {}
                for cell, index in own:
                    indices.setdefault(cell.cell_id, []).append(index)
                child = start(context, _enter_worker, ReplayTask(task, indices))
                events, end = child.events(self._experiment.run.stall_timeout, "no batch was transcribed again")
                yield from self._of_events(configuration, events, end)

    def _drawn(self, again: int, rng: np.random.Generator) -> dict[Configuration, list[tuple[Cell, int]]]:
        possible = [(cell, index) for cell in self._repeatable() for index in range(len(cell.batches))] if again else []
        drawn: dict[Configuration, list[tuple[Cell, int]]] = {}
        for place in sorted(rng.permutation(len(possible))[:again]):
            cell, index = possible[place]
            drawn.setdefault(cell.configuration, []).append((cell, index))
        return drawn

    def _repeatable(self) -> list[Cell]:
        """The done cells that would have the same id today: same versions, same kind of machine, same inputs."""
        from harness.resolution.identity import cells_of

        if self._resolved is None:
            return []
        done = {c.cell_id for c in self.cells if self._run.finished(c.cell_id, CellStatus.DONE)}
        chosen = dict.fromkeys(cell.configuration for cell in self.cells)
        today = [cell for c in chosen for cell in cells_of(c, self._experiment, self._resolved)]
        found = [cell for cell in today if cell.cell_id in done]
        if len(found) < len(done):
            rest = len(done) - len(found)
            self.remarks.append(
                f"{counted(rest, 'cell')} cannot be transcribed again: other versions, machine, model or speech"
            )
        return found

    def _task(self, configuration: Configuration, cells: Sequence[Cell]) -> Task:
        assert self._resolved is not None
        model = self._resolved.models[configuration.model].directory
        task = Task.of(list(dict.fromkeys(cells)), self._experiment, model, self._run.path)
        return replace(task, decoding=task.decoding.model_copy(update={"strategy": "plain"}))

    def _of_events(self, configuration: Configuration, events: Sequence[Any], end: Ended) -> Iterator[str]:
        if end.status is not CellStatus.DONE:
            yield f"{configuration.label}: it could not be transcribed again: {end.reason.partition(chr(10))[0]}"
        for event in events:
            if isinstance(event, Replayed):
                self.transcribed_again += 1
                where = f"{configuration.label} ({event.cell_id}), transcribed again"
                yield from (f"{where}: {text}" for text in self._differences(event))

    def _differences(self, event: Replayed) -> Iterator[str]:
        known = [*self._run.utterances(event.cell_id), *self._run.undecodable(event.cell_id)]
        by_id = {row["id"]: row for row in known}
        for row in event.rows:
            before = by_id.get(row["id"], {})
            wrong = [key for key in ("hypothesis", "tokens", "seconds") if row[key] != before.get(key)]
            # the text of an error says where the recording lay, which need not be where it lies
            wrong += [] if bool(row["error"]) == bool(before.get("error")) else ["error"]
            wrong += [] if close(row["reference_nll"], before.get("reference_nll")) else ["reference_nll"]
            if wrong:
                yield f"utterance {row['id']}: {', '.join(wrong)} differ"
        layers = {row["name"]: row for row in self._run.layers(event.cell_id)}
        for layer in event.layers:
            if any(not close(layer[key], layers.get(layer["name"], {}).get(key)) for key in layer if key != "shape"):
                yield f"layer {layer['name']} differs"


def decoder(model_directory: Path) -> Any:
    """A function from tokens to text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_directory, local_files_only=True, trust_remote_code=False)
    return lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True)


def _enter_worker(task: ReplayTask, channel: Connection) -> None:
    from harness.execution import worker

    worker.replay(task, channel)


if __name__ == "__main__":
    sys.exit(main())
