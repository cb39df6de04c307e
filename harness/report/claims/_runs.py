"""The runs that claims are tested on: opened once, their cells found by columns of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.experiment.cell import spec_columns
from harness.experiment.planned import planned_cells
from harness.records import reading
from harness.records.asked import recorded_experiment
from harness.records.layout import EXPERIMENT, RESULTS
from harness.records.reading import RecordedRun, study_of
from harness.report.columns import Wanted, levels, texts
from harness.stats import Sample
from harness.stats.effects import text_of

Row = Mapping[str, Any]


class NotMeasuredError(Exception):
    """What a claim needs is not there (yet); says what."""


class Run:
    """A finished or unfinished run.

    Args:
        path: for messages.
        stored: the run, to be read.
    """

    def __init__(self, path: str, stored: RecordedRun) -> None:
        self.path = path
        self._rows = stored.results()
        self._planned = _planned(stored) if (stored.path / EXPERIMENT).is_file() else self._rows
        self.study = study_of(stored, self._rows)

    def cell(self, wanted: Wanted, split: str | None) -> Row:
        """The finished row of the one cell that has these columns; on any split, if none is named.

        Raises:
            ConfigError: a column is not known, or none or several of the planned cells have them.
            NotMeasuredError: the cell is planned and not finished, or it failed.
        """
        configuration = self._one(wanted, split)
        places = [row for row in self._rows if split in (None, row["split"]) and levels(row) == configuration]
        done = [row for row in places if row["status"] == "done"]
        if done:
            return done[0]
        what = _shown(wanted) + ("" if split is None else f" on {split}")
        if places:
            raise NotMeasuredError(f"{self.path}: {what} is {places[0]['status']}: {places[0]['reason']}")
        raise NotMeasuredError(f"{self.path}: {what} is not finished")

    def baseline(self, row: Row) -> Row:
        """The full-precision row that a row is compared with.

        Raises:
            NotMeasuredError: it is not there.
        """
        found = self.study.baseline_of(row)
        if found is None:
            raise NotMeasuredError(f"{self.path}: {row['configuration']} on {row['split']} has no full precision")
        return found

    def sample(self, row: Row) -> Sample:
        """The utterances of a finished row."""
        return self.study.sample(row["cell_id"])

    def _one(self, wanted: Wanted, split: str | None) -> dict[str, str]:
        """The columns of the one planned configuration that is wanted."""
        on_split = [row for row in self._planned if split in (None, row["split"])]
        if not on_split:
            splits = ", ".join(sorted({row["split"] for row in self._planned}))
            raise ConfigError(f"{self.path}: there is no split {split!r}; there are {splits or 'none'}")
        left = list({tuple(sorted(own.items())): own for own in map(levels, on_split)}.values())
        for column, value in texts(wanted).items():
            known = {own[column]: None for own in left if column in own}
            left = [own for own in left if own.get(column) == value]
            if not known:
                raise ConfigError(f"{self.path}: {_shown(wanted)}: these cells have no column {column!r}")
            if not left:
                others = ", ".join(known)
                raise ConfigError(f"{self.path}: no cell has {_shown(wanted)}: {column} would have to be {others}")
        if len(left) > 1:
            raise ConfigError(
                f"{self.path}: {len(left)} cells have {_shown(wanted)}; tell them apart by {_apart(left)}"
            )
        return left[0]


def open_run(path: str) -> Run:
    """The run at a path: the only place where claims open one.

    Raises:
        NotMeasuredError: there is none, or it has no results yet.
        OutputError: it is not what was written.
    """
    if not (Path(path) / RESULTS[0]).is_file():
        there = Path(path).is_dir()
        raise NotMeasuredError(f"{path}: there {'are no results yet' if there else 'is no such directory'}")
    return Run(path, reading.open_run(Path(path)))


def differing(one: Row, other: Row) -> tuple[str, ...]:
    """The columns in which two configurations differ; options that only one of the libraries has are left out."""
    a, b = levels(one), levels(other)
    return tuple(name for name in a if name in b and a[name] != b[name])


def _planned(stored: RecordedRun) -> list[Row]:
    experiment = recorded_experiment(stored)
    cells = planned_cells(experiment)
    return [{**spec_columns(c), "split": data.label, "condition": data.condition.name} for c, data in cells]


def _shown(wanted: Wanted) -> str:
    return ", ".join(f"{column} = {text_of(value)}" for column, value in wanted.items())


def _apart(candidates: Sequence[Mapping[str, str]]) -> str:
    """The columns in which candidates differ, with their values."""
    names = {name: None for levels in candidates for name in levels}
    values = {name: dict.fromkeys(levels.get(name, "none") for levels in candidates) for name in names}
    return ", ".join(f"{name} ({', '.join(v)})" for name, v in values.items() if len(v) > 1)
