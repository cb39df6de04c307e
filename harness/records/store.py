"""A run directory, to be read: every cell in a directory of its own, written whole or not at all.

    runs/<experiment>/
      run.json          the layout's version
      experiment.json   what was asked for last
      cells/<cell_id>/  cell.json  utterances.parquet  layers.parquet  operations.parquet
                        environment.json  log.txt  DONE  answers.safetensors (of baselines)
      parts/<cell_id>/  finished batches of a cell that is not
      leases/           who does what now
      features/  encoder_states/   what workers share while a run works
      damaged/          cells that were set aside
      results.parquet   results.csv   results.sha256   latency.json

A cell is written under a temporary name, synced, and renamed. `DONE` is written last and lists the SHA-256 of every
file beside it, in the format of `sha256sum`; a cell that is not what was written is refused by whoever reads it, and
set aside and repeated by the next run. `harness.records.recording` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends import AsrQuantError
from harness.errors import OutputError
from harness.experiment.cell import SCHEMA_VERSION
from harness.experiment.planned import rows_of_plan
from harness.metrics import Scorer
from harness.records.asked import recorded_experiment, scorer_as_asked
from harness.records.files import damage, read_json, reading, written
from harness.records.layout import ANALYSES, ANSWERS, CHECKSUMS, EXPERIMENT, LATENCY, RESULTS, named_today


def cell_versions(run: Path) -> set[Any]:
    """Versions of the layout that the cells of a run say they have; one that cannot be read says none."""
    versions = set()
    for cell in run.glob("cells/*/cell.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            versions.add(json.loads(cell.read_text(encoding="utf-8"))["identity"]["schema"])
    return versions


class StoredRun:
    """The results of one experiment, to be read. Nothing is trusted that is not what was written.

    Args:
        path: of the run directory; nothing is made there.

    Raises:
        OutputError: another version of the harness wrote it.
    """

    _other_version = "read them with the version that wrote them, or run the experiment again"
    """The mend where they are another version's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked: dict[str, tuple[int, dict[str, Any]]] = {}
        self._check_version()

    @property
    def cells(self) -> Path:
        """Where the cells are."""
        return self.path / "cells"

    def _check_version(self) -> None:
        about = self.path / "run.json"
        versions = {read_json(about).get("schema")} if about.is_file() else cell_versions(self.path)
        others = versions - {SCHEMA_VERSION}
        if others:
            raise OutputError(
                f"{self.path}: these results have schema {others.pop()}, "
                f"and this version of asrquant has {SCHEMA_VERSION}; "
                f"{self._other_version}"
            )

    def results(self) -> list[dict[str, Any]]:
        """The rows of `results.parquet`; missing values are `None`.

        Raises:
            OutputError: there are none, or they were changed.
        """
        path = self.path / RESULTS[0]
        if not path.is_file():
            raise OutputError(f"{path}: there are no results; run the experiment first with python -m harness.grid")
        wrong = damage(self.path / CHECKSUMS)
        if wrong is not None:
            raise OutputError(f"{wrong}; run the experiment again, which writes it anew")
        return named_today(_rows(path))

    def experiment(self) -> dict[str, Any]:
        """The experiment that ran last, as JSON values.

        Raises:
            OutputError: it is missing or was changed.
        """
        return read_json(self.path / EXPERIMENT)

    def planned(self) -> list[Mapping[str, Any]]:
        """The planned cells, finished or not; none where the plan cannot be made here."""
        with suppress(AsrQuantError):
            return rows_of_plan(recorded_experiment(self))
        return []

    def scorer(self, split: str) -> Scorer:
        """How the utterances of a test set of the experiment are scored."""
        return scorer_as_asked(self, split)

    def damage(self, cell_id: str) -> str | None:
        """What is wrong with a finished cell: the file, and how; `None` for a whole one, or one that is not there."""
        done = self.cells / cell_id / "DONE"
        if not done.is_file():
            return None
        try:
            return damage(done) or self._misplaced(cell_id)
        except OutputError as error:
            return str(error)

    def _misplaced(self, cell_id: str) -> str | None:
        path = self.cells / cell_id / "cell.json"
        content = reading(path, lambda: json.loads(path.read_text(encoding="utf-8")))
        return None if content.get("cell_id") == cell_id else f"{path}: it is another cell's, {content.get('cell_id')}"

    def finished(self, cell_id: str, status: str | None = None) -> dict[str, Any] | None:
        """The `cell.json` of a finished cell, or `None`; with `status`, only if it ended so.

        Raises:
            OutputError: it is not what was written.
        """
        stamp = self.stamp(cell_id)
        if stamp is None:
            return None
        if self._checked.get(cell_id, (None,))[0] != stamp:
            wrong = self.damage(cell_id)
            if wrong is not None:
                raise OutputError(f"{wrong}; run the experiment again, which sets the cell aside and repeats it")
            path = self.cells / cell_id / "cell.json"
            self._checked[cell_id] = stamp, reading(path, lambda: json.loads(path.read_text(encoding="utf-8")))
        content = self._checked[cell_id][1]
        return content if status in (None, content["status"]) else None

    def stamp(self, cell_id: str) -> int | None:
        """Tells one writing of a cell from another; `None` where it is not finished."""
        return written(self.cells / cell_id / "DONE")

    def files(self, cell_id: str) -> dict[str, bytes]:
        """A finished cell as it is stored."""
        return {path.name: path.read_bytes() for path in sorted((self.cells / cell_id).iterdir())}

    def environment(self, cell_id: str) -> dict[str, Any]:
        """Versions, machine and command of a finished cell."""
        path = self.cells / cell_id / "environment.json"
        content: dict[str, Any] = reading(path, lambda: json.loads(path.read_text(encoding="utf-8")))
        return content

    def utterances(self, cell_id: str) -> list[dict[str, Any]]:
        """The rows of the utterances that a finished cell transcribed; empty where there are none.

        Raises:
            OutputError: the cell is not there any more, or is not what was written.
        """
        if self.finished(cell_id) is None:
            raise OutputError(f"{self.cells / cell_id}: this cell is missing or incomplete; run the experiment again")
        return [row for row in self._table(cell_id, "utterances") if not row.get("error")]

    def undecodable(self, cell_id: str) -> list[dict[str, Any]]:
        """The rows of the utterances whose audio could not be decoded; `error` says why."""
        return [row for row in self._table(cell_id, "utterances") if row.get("error")]

    def answers(self, cell_id: str) -> Path | None:
        """The file of a finished baseline's answers to the references; `None` where it has none."""
        path = self.cells / cell_id / ANSWERS
        return path if path.is_file() else None

    def layers(self, cell_id: str) -> list[dict[str, Any]]:
        """The layer rows of a finished cell; empty where it produced none."""
        return self._table(cell_id, "layers")

    def operations(self, cell_id: str) -> list[dict[str, Any]]:
        """The operation rows of a finished cell; empty where it produced none."""
        return self._table(cell_id, "operations")

    def analyses(self) -> list[dict[str, Any]]:
        """What `write_analysis` wrote, in the order of the configurations' ids."""
        return [read_json(path) for path in sorted((self.path / ANALYSES).glob("[0-9a-f]*.json"))]

    def latency(self) -> dict[str, Any]:
        """What `harness.latency` found; empty where nothing was timed."""
        path = self.path / LATENCY
        return read_json(path) if path.is_file() else {}

    def _table(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        path = self.cells / cell_id / f"{name}.parquet"
        return _rows(path) if path.is_file() else []


def _rows(path: Path) -> list[dict[str, Any]]:
    """What a parquet file holds; `pyarrow.parquet.read_table` loads far more of pyarrow for it."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = reading(path, lambda: pq.ParquetFile(path).read().to_pylist())
    return rows
