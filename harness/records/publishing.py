"""What is published of a recorded run: the tables and documents that `harness.records.published` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import OutputError
from harness.experiment.cell import SCHEMA_VERSION, Cell
from harness.experiment.config import Experiment
from harness.experiment.planned import planned_cells, rows_of_plan
from harness.records._licences import licence_note
from harness.records._paths import Paths
from harness.records._published_tables import Utterances, numbered, write_table
from harness.records.asked import recorded_experiment
from harness.records.files import checksums, sync, write_json, written
from harness.records.layout import CHECKSUMS as RESULTS_CHECKSUMS
from harness.records.layout import RESULTS
from harness.records.published import ABOUT, CHECKSUMS, ENVIRONMENTS, EXPERIMENT, FORMAT, LATENCY, LICENCE
from harness.records.reading import RecordedRun
from harness.records.results import result_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Publication:
    """A recorded run with what is published of it.

    Attributes:
        run: as it is recorded.
        rows: of its results.
        original, experiment: what was asked for, as it was and without local paths.
        paths: how local things are called.
        ids: of configurations, from those of the run to those of `experiment`; a model's local path is part of them.
    """

    run: RecordedRun
    rows: Sequence[Row]
    original: Experiment
    experiment: Experiment
    paths: Paths
    ids: Mapping[str, str]

    @classmethod
    def of(cls, run: RecordedRun) -> Publication:
        """What is to be published of a run.

        Raises:
            OutputError: it has no results, or is not what was written.
        """
        listed = _listed(run)
        original = recorded_experiment(run)
        paths = Paths(run.path, original)
        experiment = paths.experiment(original)
        plans = (planned_cells(asked) for asked in (original, experiment))
        ids = {one.id: other.id for (one, _), (other, _) in zip(*plans, strict=True)}
        rows = _with_unlisted(run, listed, original)
        if not rows:
            raise OutputError(f"{run.path}: no cell is finished, so there is nothing to publish")
        return cls(run, rows, original, experiment, paths, ids)

    def write(self, directory: Path) -> None:
        """Write all files into an empty directory, the checksums last.

        Raises:
            OutputError: a cell is not what was written, or its scores do not follow from its transcripts.
        """
        utterances = self._write_cells(directory)
        about = {
            "format": FORMAT,
            "schema": SCHEMA_VERSION,
            "asrquant": metadata.version("asrquant"),
            "name": self.experiment.name,
            "dropped": utterances.dropped,
        }
        write_json(directory / ABOUT, about)
        write_json(directory / EXPERIMENT, self.experiment.model_dump(mode="json"))
        write_table(directory / "results.parquet", [self._renamed(row) for row in self.rows])
        write_table(directory / "plan.parquet", self.plan())
        analyses = [{"document": json.dumps(self._renamed(found))} for found in self.run.analyses()]
        write_table(directory / "analyses.parquet", analyses)
        if latency := self.run.latency():
            write_json(directory / LATENCY, self._latency(latency))
        (directory / LICENCE).write_text(licence_note(self.experiment), encoding="utf-8")
        files = sorted(directory.iterdir())
        (directory / CHECKSUMS).write_text(checksums(files), encoding="utf-8")
        for path in (*files, directory / CHECKSUMS, directory):
            sync(path)

    def plan(self) -> list[Row]:
        """The planned cells with the ids of those that have a record."""
        there = {(self.ids.get(r["configuration_id"]), r["split"]): r["cell_id"] for r in self.rows}
        return [
            {**cell, "cell_id": there.get((cell["configuration_id"], cell["split"]))}
            for cell in rows_of_plan(self.experiment)
        ]

    def _write_cells(self, directory: Path) -> Utterances:
        utterances = Utterances(self.run.scorer, self.paths)
        environments: dict[str, int] = {}
        layers: dict[str, int] = {}
        operations: dict[str, int] = {}
        rows = []
        for number, row in enumerate(self.rows):
            cell_id = row["cell_id"]
            document = self._document(cell_id)
            environment = self.paths.environment(self.run.environment(cell_id))
            finished = environment.pop("finished", None)
            columns = utterances.add(
                number,
                row["split"],
                [*self.run.utterances(cell_id), *self.run.undecodable(cell_id)],
            )
            rows.append(
                {
                    "cell_id": cell_id,
                    "split": row["split"],
                    "document": json.dumps(document, sort_keys=True),
                    "columns": json.dumps(columns),
                    "environment": numbered(environments, environment),
                    "finished": finished,
                    "layers": numbered(layers, self.run.layers(cell_id)),
                    "operations": numbered(operations, self.run.operations(cell_id)),
                }
            )
        write_table(directory / "cells.parquet", rows)
        write_json(directory / ENVIRONMENTS, {"environments": [json.loads(text) for text in environments]})
        for name, sets in (("layers", layers), ("operations", operations)):
            own = [{"set": i, **row} for text, i in sets.items() for row in json.loads(text)]
            write_table(directory / f"{name}.parquet", own)
        utterances.write(directory)
        if table := utterances.spellings:
            digest = hashlib.sha256(table).hexdigest()
            write_table(directory / "spellings.parquet", [{"hash": digest, "table": table}])
        return utterances

    def _document(self, cell_id: str) -> dict[str, Any]:
        content = self.run.finished(cell_id)
        if content is None:
            raise OutputError(
                f"{self.run.path}: the cell {cell_id} of the results is missing; run the experiment again"
            )
        return self._renamed(content)

    def _renamed(self, row: Row) -> dict[str, Any]:
        """A document or row that names a configuration, as it is called without its model's path."""
        ways: dict[str, Callable[[str], str]] = {
            "configuration_id": lambda known: self.ids.get(known, known),
            "baseline_id": lambda known: self.ids.get(known, known),
            "model": self.paths.model,
            "reason": self.paths.text,
        }
        return {**row, **{key: way(row[key]) for key, way in ways.items() if isinstance(row.get(key), str)}}

    def _latency(self, document: Row) -> dict[str, Any]:
        environment = self.paths.environment(document.get("environment", {}))
        return {**document, "environment": environment, "rows": [self._renamed(row) for row in document["rows"]]}


def _listed(run: RecordedRun) -> list[dict[str, Any]]:
    """The rows of the results; none for a run that was killed before it had any."""
    unlisted = not (run.path / RESULTS[0]).is_file() and any((run.path / "cells").glob("*/DONE"))
    return [] if unlisted else run.results()


def _with_unlisted(run: RecordedRun, rows: list[dict[str, Any]], experiment: Experiment) -> list[dict[str, Any]]:
    """The rows, made anew where cells were finished after they were made: by a run that was killed.

    A cell of the plan that another version measured before is no such cell: it was there when the rows were made.
    """
    made = written(run.path / RESULTS_CHECKSUMS) or 0
    places = {(row["configuration_id"], row["split"]): row["cell_id"] for row in rows}
    known = set(places.values())
    for done in sorted((run.path / "cells").glob("*/DONE"), key=lambda path: path.stat().st_mtime_ns):
        cell_id = done.parent.name
        if cell_id not in known and done.stat().st_mtime_ns > made:
            content = run.finished(cell_id) or {}
            places[content.get("configuration_id", ""), content.get("split", "")] = cell_id
    cells = []
    for configuration, data in planned_cells(experiment):
        cell_id = places.get((configuration.id, data.label), "")
        if cell_id:
            identity = (run.finished(cell_id) or {}).get("identity", {})
            cells.append(Cell(configuration, data, identity, cell_id, ()))
    return rows if {cell.cell_id for cell in cells} <= known else result_rows(run, cells)
