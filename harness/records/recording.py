"""A run directory, to be written: whole cells or none, by one runner or several, and tidied up after killed ones."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import OutputError
from harness.experiment.cell import SCHEMA_VERSION
from harness.records.files import (
    as_json,
    checksums,
    is_temporary,
    read_json,
    sync,
    temporary_beside,
    write_json,
    writing,
    written,
)
from harness.records.layout import (
    ANALYSES,
    ANSWERS,
    CHECKSUMS,
    ENCODER_STATES,
    EXPERIMENT,
    FEATURES,
    LATENCY,
    LEASES,
    PARTS,
    RESULTS,
    CellRecord,
    Files,
    Rows,
)
from harness.records.leases import elsewhere
from harness.records.locks import lock as take_lock
from harness.records.locks import lock_soon
from harness.records.store import StoredRun, cell_versions
from harness.records.tables import write_results, write_table


class RunDirectory(StoredRun):
    """The results of one experiment, to be written.

    Raises:
        OutputError: the directory cannot be made or written, another version of the harness wrote it, or it is held.
    """

    _other_version = "move the directory away, or choose another --out"

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = temporary_beside(path / "write")
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path}: results cannot be written there: {error.strerror}; choose another --out"
            ) from None
        self.path = path
        with self._locked() as lock:
            self._share(lock)  # who tidies up would take away what is being written
            _mend_version(path)
        super().__init__(path)
        with writing(path):
            self.cells.mkdir(exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep all others out while this process works.

        Raises:
            OutputError: another one is at work.
        """
        with self._locked() as lock:
            if not take_lock(lock, fcntl.LOCK_EX):
                raise self._in_use()
            self._remove_leftovers()
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work here, beside other runners perhaps, but not beside what holds the directory.

        Whoever comes when nobody is there, or goes last, removes what a killed runner left.

        Raises:
            OutputError: it is held.
        """
        with self._locked() as lock:
            if take_lock(lock, fcntl.LOCK_EX) and not elsewhere(self.path / LEASES):
                self._remove_leftovers()
            self._share(lock)
            try:
                yield
            finally:
                if take_lock(lock, fcntl.LOCK_EX) and not elsewhere(self.path / LEASES):
                    self._remove_leftovers()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        with writing(self.path):
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            yield lock
        finally:
            os.close(lock)

    def _share(self, lock: int) -> None:
        if not lock_soon(lock, fcntl.LOCK_SH):
            raise self._in_use()

    def _in_use(self) -> OutputError:
        return OutputError(f"{self.path}: another command is using it; wait for it, or choose another --out")

    def _remove_leftovers(self) -> None:
        for name in (FEATURES, ENCODER_STATES, LEASES):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for path in [p for p in self.path.rglob(".*") if is_temporary(p)]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for parts in (self.path / PARTS).glob("*"):  # of a cell that was finished when its worker was killed
            if self._is_done(parts.name):
                shutil.rmtree(parts, ignore_errors=True)
        with suppress(OSError):  # it is empty unless a cell is left to be finished
            (self.path / PARTS).rmdir()

    def set_aside(self, cell_ids: Iterable[str]) -> list[str]:
        """Move finished cells that are not what was written to `damaged/`; what was wrong with each."""
        found = []
        for cell_id in cell_ids:
            wrong = self.damage(cell_id)
            if wrong is not None:
                aside = self.path / "damaged" / temporary_beside(self.cells / cell_id).name.lstrip(".")
                with writing(aside):
                    aside.parent.mkdir(exist_ok=True)
                    (self.cells / cell_id).rename(aside)
                found.append(wrong)
        return found

    def others(self, known: Container[str], models: Container[str]) -> int:
        """How many finished cells of these models are there beyond those that are known."""
        names = [path.name for path in self.cells.iterdir()] if self.cells.is_dir() else []
        unknown = [name for name in names if name not in known and self.stamp(name) is not None]
        return sum(self._model_of(name) in models for name in unknown)

    def _model_of(self, cell_id: str) -> str | None:
        """The model of a finished cell; `None` of one that is not what was written."""
        with suppress(OutputError):
            return (self.finished(cell_id) or {}).get("model")
        return None

    def write(self, record: CellRecord) -> None:
        """Write one cell, in place of an earlier one with the same id; one that is done is left as it is.

        Raises:
            OutputError: it cannot be written; nothing is left of it.
        """
        self._write(record.cell_id, lambda directory: _write_files(record, directory))
        if record.cell["status"] == "done":
            shutil.rmtree(self.path / PARTS / record.cell_id, ignore_errors=True)

    def adopt(self, cell_id: str, files: Files) -> None:
        """Write one cell as another run directory has it, in place of an earlier one; one that is done is left.

        Raises:
            OutputError: it cannot be written.
        """
        self._write(cell_id, lambda directory: _copy_files(files, directory))

    def _write(self, cell_id: str, fill: Callable[[Path], None]) -> None:
        target = self.cells / cell_id
        temporary = temporary_beside(target)
        try:
            with writing(target):
                temporary.mkdir()
                fill(temporary)
                sync(temporary)
                self._put(temporary, target)
                sync(self.cells)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _put(self, temporary: Path, target: Path) -> None:
        """Rename a written cell to its name, where none is that is done; beside other runners that do the same."""
        while not self._is_done(target.name):
            try:
                temporary.rename(target)
                return
            except OSError:
                if not target.exists():
                    raise
                aside = temporary_beside(target)
                with suppress(FileNotFoundError):
                    target.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)

    def _is_done(self, cell_id: str) -> bool:
        """Whether a cell is there, undamaged."""
        return self.damage(cell_id) is None and self.finished(cell_id, "done") is not None

    @contextmanager
    def making_results(self) -> Iterator[None]:
        """Keep other runners from making the results meanwhile, as far as the file system can lock a directory."""
        place = os.open(self.cells, os.O_RDONLY)
        try:
            lock_soon(place, fcntl.LOCK_EX)
            yield
        finally:
            os.close(place)

    def results_made_last(self, cell_ids: Iterable[str]) -> list[dict[str, Any]] | None:
        """The results, where they are of the finished ones of these cells and were made after all they are made of."""
        finished = {cell: stamp for cell in cell_ids if (stamp := self.stamp(cell)) is not None}
        made, *others = (written(self.path / name) for name in (CHECKSUMS, EXPERIMENT, LATENCY))
        if made is None or any(other >= made for other in (*others, *finished.values()) if other is not None):
            return None
        rows = self.results()
        return rows if [row["cell_id"] for row in rows] == list(finished) else None

    def write_results(self, rows: Rows) -> None:
        """Replace `results.parquet` and `results.csv`; text in the latter that a spreadsheet would run is quoted."""
        write_results(rows, *(self.path / name for name in (*RESULTS, CHECKSUMS)))

    def write_experiment(self, document: Mapping[str, Any]) -> None:
        """Keep what was asked for, so that `harness.verify` can ask again."""
        write_json(self.path / EXPERIMENT, document)

    def write_latency(self, document: Mapping[str, Any]) -> None:
        """Replace `latency.json`."""
        write_json(self.path / LATENCY, document)

    def write_analysis(self, configuration_id: str, document: Mapping[str, Any]) -> None:
        """Write the analysis of one configuration, in place of an earlier one."""
        directory = self.path / ANALYSES
        with writing(directory):
            directory.mkdir(exist_ok=True)
        write_json(directory / f"{configuration_id}.json", document)


def _mend_version(path: Path) -> None:
    """Write `run.json` where it is missing or damaged, unless a cell there was written by another version."""
    about = path / "run.json"
    with suppress(OutputError):
        read_json(about)
        return
    if cell_versions(path) <= {SCHEMA_VERSION}:
        write_json(about, {"schema": SCHEMA_VERSION})


def _copy_files(files: Files, directory: Path) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)
        sync(directory / name)


def _write_files(record: CellRecord, directory: Path) -> None:
    (directory / "cell.json").write_text(as_json(record.cell), encoding="utf-8")
    (directory / "environment.json").write_text(as_json(record.environment or {}), encoding="utf-8")
    (directory / "log.txt").write_text(record.log, encoding="utf-8", errors="replace")
    for name in ("utterances", "layers", "operations"):
        if rows := getattr(record, name):
            write_table(directory / f"{name}.parquet", rows)
    if record.answers:
        (directory / ANSWERS).write_bytes(record.answers)
    written = sorted(directory.iterdir())
    for path in written:
        sync(path)
    (directory / "DONE").write_text(checksums(written), encoding="utf-8")
    sync(directory / "DONE")
