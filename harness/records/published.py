"""A published run, to be read: what results need and no more, small enough to be committed.

    experiments/results/<name>/
      published.json        the version of this form
      experiment.json       what was asked for, without local paths
      plan.parquet          every planned cell, finished or not
      results.parquet       the rows of the results
      cells.parquet         of every finished cell its cell.json, and which of the following are its own
      environments.json     versions and machines, each once
      references.parquet    what all cells have in common of an utterance
      utterances.parquet    what they do not
      layers.parquet        operations.parquet        each set of rows once
      spellings.parquet     the normaliser's table of spellings, with its hash
      analyses.parquet      latency.json              where there are any
      LICENCE.txt           SHA256SUMS

Normalised words, alignments and counts follow from reference and hypothesis, and are computed when they are read.
`harness.publish` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import OutputError
from harness.metrics import Scorer
from harness.records.asked import scorer_as_asked
from harness.records.files import damage, read_json, reading, written
from harness.records.layout import named_today

FORMAT = 1
ABOUT = "published.json"
EXPERIMENT = "experiment.json"
ENVIRONMENTS = "environments.json"
LATENCY = "latency.json"
CHECKSUMS = "SHA256SUMS"
LICENCE = "LICENCE.txt"
DERIVED = (
    "normalised_reference",
    "normalised_hypothesis",
    "alignment",
    "substitutions",
    "deletions",
    "insertions",
    "reference_words",
    "character_errors",
    "reference_characters",
    "empty",
    "loop",
)
"""Columns of an utterance that this form leaves out: `harness.metrics.scores` gives them again."""
Row = dict[str, Any]
_MEND = "fetch the published run again, or publish it anew"


def is_published(path: Path) -> bool:
    """Whether a directory is a published run, whatever its version."""
    return (path / ABOUT).is_file()


def open_published(path: Path) -> PublishedRun:
    """The published run at `path`.

    Raises:
        OutputError: a newer version of the harness wrote it, or it is not what was written.
    """
    number = read_json(path / ABOUT, _MEND).get("format")
    reader = _READERS.get(number) if isinstance(number, int) else None
    if reader is None:
        raise OutputError(
            f"{path / ABOUT}: it has format {number}, and this version of asrquant reads up to {FORMAT}; "
            "take a newer version"
        )
    wrong = damage(path / CHECKSUMS)
    if wrong is not None:
        raise OutputError(f"{wrong}; {_MEND}")
    return reader(path)


class PublishedRun:
    """A published run of the first version of the form, read as any `harness.records.reading.RecordedRun`.

    Args:
        path: of the directory; nothing is written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scores: dict[tuple[str, str | None, str, str], Row] = {}
        self._scorers: dict[str, Scorer] = {}

    @property
    def dropped(self) -> list[str]:
        """Columns of the utterances that were not published: values for every token."""
        return list(read_json(self.path / ABOUT)["dropped"])

    def results(self) -> list[Row]:
        """The rows of the results."""
        return named_today(self._rows("results"))

    def experiment(self) -> Row:
        """What was asked for, without local paths."""
        return read_json(self.path / EXPERIMENT)

    def planned(self) -> list[Mapping[str, Any]]:
        """The planned cells; those without a record have no `cell_id`."""
        return list(self._rows("plan"))

    def damage(self, cell_id: str) -> None:
        """Nothing: who opened it has looked at all checksums."""

    def finished(self, cell_id: str, status: str | None = None) -> Row | None:
        """The `cell.json` of a finished cell, or `None`; with `status`, only if it ended so."""
        if cell_id not in self.cells:
            return None
        content: Row = json.loads(self.cells[cell_id]["document"])
        return content if status in (None, content["status"]) else None

    def stamp(self, cell_id: str) -> int | None:
        """When the run was written here; `None` where the cell is not in it."""
        return written(self.path / CHECKSUMS) if cell_id in self.cells else None

    def environment(self, cell_id: str) -> Row:
        """Versions, machine and command of a finished cell; empty where it was answered without being computed."""
        own = self.cells[cell_id]
        found = {} if own["environment"] is None else dict(self._environments[own["environment"]])
        return found if own["finished"] is None else {**found, "finished": own["finished"]}

    def utterances(self, cell_id: str) -> list[Row]:
        """The rows of the utterances that a finished cell transcribed.

        Raises:
            OutputError: the cell is not there.
        """
        if cell_id not in self.cells:
            raise OutputError(f"{self.path}: there is no record of the cell {cell_id}; run the experiment first")
        return [row for row in self._utterances(cell_id) if not row.get("error")]

    def undecodable(self, cell_id: str) -> list[Row]:
        """The rows of the utterances that could not be transcribed; `error` says why."""
        return [row for row in self._utterances(cell_id) if row.get("error")] if cell_id in self.cells else []

    def layers(self, cell_id: str) -> list[Row]:
        """The layer rows of a finished cell."""
        return self._of_set("layers", cell_id)

    def operations(self, cell_id: str) -> list[Row]:
        """The operation rows of a finished cell."""
        return self._of_set("operations", cell_id)

    def analyses(self) -> list[Row]:
        """What `harness.analyze` found."""
        return [json.loads(row["document"]) for row in self._rows("analyses")]

    def latency(self) -> Row:
        """What `harness.latency` found; empty where nothing was timed."""
        return read_json(self.path / LATENCY) if self._has(LATENCY) else {}

    @cached_property
    def cells(self) -> dict[str, Row]:
        """What is known of every finished cell, by its id, in the order of the results."""
        return {row["cell_id"]: {**row, "number": number} for number, row in enumerate(self._rows("cells"))}

    def _has(self, name: str) -> bool:
        """Whether a file was published; one that was put there since is not looked at."""
        return name in self._listed and (self.path / name).is_file()

    @cached_property
    def _listed(self) -> set[str]:
        lines = (self.path / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        return {line.partition("  ")[2] for line in lines}

    @cached_property
    def _environments(self) -> list[Row]:
        return list(read_json(self.path / ENVIRONMENTS)["environments"])

    def _rows(self, name: str) -> list[Row]:
        rows: list[Row] = self._table(name).to_pylist() if self._has(f"{name}.parquet") else []
        return rows

    def _table(self, name: str) -> Any:
        import pyarrow.parquet as pq

        path = self.path / f"{name}.parquet"
        return reading(path, lambda: pq.ParquetFile(path).read())

    def _of_set(self, name: str, cell_id: str) -> list[Row]:
        """The rows of layers or operations that a cell has, which may be others' too."""
        own = self.cells[cell_id][name] if cell_id in self.cells else None
        return [dict(row) for row in ([] if own is None else self._sets[name][own])]

    @cached_property
    def _sets(self) -> dict[str, dict[int, list[Row]]]:
        found: dict[str, dict[int, list[Row]]] = {"layers": {}, "operations": {}}
        for name, sets in found.items():
            for row in self._rows(name):
                sets.setdefault(row.pop("set"), []).append(row)
        return found

    def _utterances(self, cell_id: str) -> list[Row]:
        """All rows of a cell, in the order in which they were transcribed."""
        own = self.cells[cell_id]
        table, columns = self._of_cell.get(own["number"]), json.loads(own["columns"])
        rows = []
        for row in [] if table is None else table.to_pylist():
            known = {**self._references[own["split"], row["id"]], **row}
            known.update(self._scored(own["split"], known.get("language"), known["reference"], known["hypothesis"]))
            rows.append((known["position"], {key: known[key] for key in columns}))
        return [row for _, row in sorted(rows, key=lambda pair: pair[0])]

    @cached_property
    def _of_cell(self) -> dict[int, Any]:
        """The table of utterances by the number of the cell; rows become Python values when they are asked for."""
        import numpy as np

        if not self._has("utterances.parquet"):
            return {}
        table = self._table("utterances")
        numbers = table.column("cell").to_numpy()
        order = np.argsort(numbers, kind="stable")
        there, starts = np.unique(numbers[order], return_index=True)
        parts = np.split(order, starts[1:])
        return {int(number): table.take(part) for number, part in zip(there, parts, strict=True)}

    @cached_property
    def _references(self) -> dict[tuple[str, str], Row]:
        return {(row.pop("split"), row["id"]): row for row in self._rows("references")}

    def _scored(self, split: str, language: str | None, reference: str, hypothesis: str) -> Row:
        """The derived columns; most hypotheses of a reference are equal, so each pair is scored once."""
        key = split, language, reference, hypothesis
        if key not in self._scores:
            found = self.scorer(split).scores(reference, hypothesis, language)
            self._scores[key] = {column: found[column] for column in DERIVED}
        return self._scores[key]

    def scorer(self, split: str) -> Scorer:
        """How the utterances of a test set are scored, with the table of spellings that there was."""
        if split not in self._scorers:
            tables = [row["table"] for row in self._rows("spellings")]
            self._scorers[split] = scorer_as_asked(self, split, tables[0] if tables else None)
        return self._scorers[split]


_READERS = {FORMAT: PublishedRun}
"""Who reads which version; one that was ever written is read for good."""
