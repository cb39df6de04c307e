"""The run directory: every cell in a directory of its own, written whole or not at all.

    runs/<experiment>/
      cells/<cell_id>/  cell.json  utterances.parquet  layers.parquet  operations.parquet
                        environment.json  log.txt  DONE
      results.parquet   results.csv   latency.json

A cell is written under a temporary name, synced, and renamed; `DONE` is written last. One runner at
a time holds the directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import OutputError

Rows = Sequence[Mapping[str, Any]]
_LATENCY = "latency.json"
_ANALYSES = "analysis"
FEATURES = "features"
"""Prepared speech, for as long as a run works."""


@dataclass(frozen=True)
class CellRecord:
    """All that is kept of one cell.

    Attributes:
        cell_id: names its directory.
        cell: identity, status, reason, and measured values, as JSON values.
        utterances: one row per utterance: id, speaker, reference, hypothesis, both normalised,
            alignment, tokens, counts, and the reference's likelihood.
        layers: one row per candidate module.
        environment: versions, machine, command.
        log: what the worker and the libraries printed.
        operations: one row per layer and phase of a transcription: MACs, BOPs and bytes.
    """

    cell_id: str
    cell: Mapping[str, Any]
    utterances: Rows = ()
    layers: Rows = ()
    environment: Mapping[str, Any] | None = None
    log: str = ""
    operations: Rows = ()


class StoredRun:
    """The results of one experiment, to be read.

    Args:
        path: of the run directory; nothing is made there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def _cells(self) -> Path:
        return self.path / "cells"

    def results(self) -> list[dict[str, Any]]:
        """The rows of `results.parquet`; missing values are `None`.

        Raises:
            OutputError: there are none.
        """
        import pyarrow.parquet as pq

        path = self.path / "results.parquet"
        if not path.is_file():
            raise OutputError(f"{path}: there are no results; run the experiment first with python -m harness.grid")
        rows: list[dict[str, Any]] = _read(path, lambda: pq.read_table(path).to_pylist(), "run")
        if any("cell_id" not in row or "status" not in row for row in rows):
            raise OutputError(f"{path}: it has no cell_id or no status; run the experiment again")
        return rows

    def finished(self, cell_id: str, status: str | None = None) -> dict[str, Any] | None:
        """The `cell.json` of a finished cell, or `None`; with `status`, only if it ended so."""
        directory = self._cells / cell_id
        if not (directory / "DONE").is_file():
            return None
        content = read_json(directory / "cell.json")
        return content if status in (None, content["status"]) else None

    def environment(self, cell_id: str) -> dict[str, Any]:
        """Versions, machine and command of a finished cell."""
        return read_json(self._cells / cell_id / "environment.json")

    def utterances(self, cell_id: str) -> list[dict[str, Any]]:
        """The utterance rows of a finished cell; empty where it produced none.

        Raises:
            OutputError: the cell is not there any more, or cannot be read.
        """
        if not (self._cells / cell_id / "DONE").is_file():
            raise OutputError(f"{self._cells / cell_id}: this cell is missing or incomplete; run the experiment again")
        return self._table(cell_id, "utterances")

    def layers(self, cell_id: str) -> list[dict[str, Any]]:
        """The layer rows of a finished cell; empty where it produced none."""
        return self._table(cell_id, "layers")

    def operations(self, cell_id: str) -> list[dict[str, Any]]:
        """The operation rows of a finished cell; empty where it produced none."""
        return self._table(cell_id, "operations")

    def analyses(self) -> list[dict[str, Any]]:
        """What `write_analysis` wrote, in the order of the configurations' ids."""
        return [read_json(path) for path in sorted((self.path / _ANALYSES).glob("[0-9a-f]*.json"))]

    def _table(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        path = self._cells / cell_id / f"{name}.parquet"
        return _read(path, lambda: pq.read_table(path).to_pylist()) if path.is_file() else []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON document of a run.

    Raises:
        OutputError: it is missing or broken.
    """
    content: dict[str, Any] = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    return content


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a file by a JSON document, whole or not at all."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    _write_synced(temporary, _json(document))
    temporary.replace(path)
    _sync_directory(path.parent)


def _read(path: Path, read: Callable[[], Any], mend: str = "remove this cell's directory and run") -> Any:
    """What `read` gives; a file that is missing or broken is the user's to mend."""
    try:
        return read()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"{path}: cannot be read: {reason}; {mend} the experiment again") from None


class RunDirectory(StoredRun):
    """The results of one experiment, to be written.

    Raises:
        OutputError: the directory cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._cells.mkdir(parents=True, exist_ok=True)
            probe = path / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{path}: results cannot be written there: {error.strerror}; choose another --out"
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runners out while this one works.

        Raises:
            OutputError: another one holds it.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OutputError(
                    f"{self.path}: another run is using it; wait for it, or choose another --out"
                ) from None
            self._remove_unfinished()
            try:
                yield
            finally:
                shutil.rmtree(self.path / FEATURES, ignore_errors=True)

    def _remove_unfinished(self) -> None:
        for leftover in self._cells.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def write(self, record: CellRecord) -> None:
        """Write one cell, in place of an earlier one with the same id."""
        temporary = self._cells / f".{record.cell_id}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write_synced(temporary / "cell.json", _json(record.cell))
        _write_synced(temporary / "environment.json", _json(record.environment or {}))
        _write_synced(temporary / "log.txt", record.log)
        for name in ("utterances", "layers", "operations"):
            if rows := getattr(record, name):
                _write_table(temporary / f"{name}.parquet", rows)
        _write_synced(temporary / "DONE", "")
        _sync_directory(temporary)
        target = self._cells / record.cell_id
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        _sync_directory(self._cells)

    def write_results(self, rows: Rows) -> None:
        """Replace `results.parquet` and `results.csv`."""
        import pandas

        columns = dict.fromkeys(key for row in rows for key in row)
        frame = pandas.DataFrame({key: _column([row.get(key) for row in rows]) for key in columns})
        for name, write in (("results.parquet", frame.to_parquet), ("results.csv", frame.to_csv)):
            temporary = self.path / f".{name}-{os.getpid()}"
            write(temporary, index=False)
            temporary.replace(self.path / name)

    def latency(self) -> dict[str, Any]:
        """What `write_latency` wrote; empty where nothing was timed."""
        path = self.path / _LATENCY
        return read_json(path) if path.is_file() else {}

    def write_latency(self, document: Mapping[str, Any]) -> None:
        """Replace `latency.json`."""
        write_json(self.path / _LATENCY, document)

    def write_analysis(self, configuration_id: str, document: Mapping[str, Any]) -> None:
        """Write the analysis of one configuration, in place of an earlier one."""
        directory = self.path / _ANALYSES
        directory.mkdir(exist_ok=True)
        write_json(directory / f"{configuration_id}.json", document)


def _column(values: list[Any]) -> Any:
    """A pandas column of the values' own type, so that a column has one type whatever a run contains."""
    import pandas

    kinds = {type(value) for value in values if value is not None}
    number = "Int64" if kinds == {int} else "float64"
    dtype = "boolean" if kinds == {bool} else number if kinds and kinds <= {int, float} else "string"
    return pandas.Series(values, dtype=dtype)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _write_table(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
