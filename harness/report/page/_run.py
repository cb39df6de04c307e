"""A finished run as the sections of the page see it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.experiment.cell import CellStatus
from harness.records.reading import RecordedRun, study_of
from harness.records.results import DIFFERENCE
from harness.report.labels import label, telling
from harness.report.remaining import largest_part
from harness.report.units import Unit, unit_of
from harness.stats import Study

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PageRun:
    """A run that is to be shown.

    Attributes:
        stored: where its cells lie.
        rows: of the results, in their order; what is missing or not a finite number is `None`;
            `largest_part` is what most of the bytes are.
        study: the statistics of its finished cells.
    """

    stored: RecordedRun
    rows: tuple[Row, ...]
    study: Study

    @classmethod
    def of(cls, stored: RecordedRun) -> PageRun:
        """The stored run.

        Raises:
            OutputError: it has no results, or they cannot be read.
        """
        rows = tuple(
            {**_finite({**dict.fromkeys(DIFFERENCE), **row}), "largest_part": _largest_part(stored, row)}
            for row in stored.results()
        )
        return cls(stored, rows, study_of(stored, rows))

    @property
    def name(self) -> str:
        """Of the experiment: its directory's."""
        return self.stored.path.resolve().name

    @property
    def unit(self) -> Unit:
        """What errors are counted in."""
        return unit_of(self.rows)

    @property
    def splits(self) -> list[str]:
        """In the order of the results."""
        return self.levels("split")

    def levels(self, column: str) -> list[Any]:
        """The different values of a column, in the order of the results."""
        return list(dict.fromkeys(row[column] for row in self.rows))

    def label(self, row: Row) -> str:
        """A configuration's name, with what tells the run's models and devices apart."""
        return label(row, telling(self.rows))


def _largest_part(stored: RecordedRun, row: Row) -> str | None:
    done = row["status"] == CellStatus.DONE
    return largest_part(row["size_bytes"], stored.layers(row["cell_id"])) if done else None


def _finite(row: Row) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
