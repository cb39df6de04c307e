"""Configurations that are done on every test set, and how they and their costs are put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.labels import label, telling
from harness.report.numbers import points_interval
from harness.stats import Study

Row = Mapping[str, Any]
SIGNIFICANT = 0.05
CATASTROPHE = 2.5
"""More than so many times the errors of full precision is a catastrophe."""
_LISTED = 12


@dataclass(frozen=True)
class Complete:
    """One configuration with its rows by split."""

    label: str
    rows: Mapping[str, Row]

    @property
    def any(self) -> Row:
        """Its row on the first test set."""
        return next(iter(self.rows.values()))

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.any["size_bytes"])

    @property
    def is_baseline(self) -> bool:
        """Whether it is full precision."""
        return bool(self.any["backend"] == "none")

    @property
    def as_good(self) -> bool:
        """Whether it is shown on every test set to make certainly fewer than `MARGIN` more errors."""
        return all(row["non_inferior"] for row in self.rows.values())

    def cost(self, split: str) -> str:
        """In points with its interval, or "identical"."""
        return cost_of(self.rows[split])


def complete(study: Study, splits: Sequence[str]) -> list[Complete]:
    """Configurations that are done on every split, smallest first."""
    by_id: dict[str, dict[str, Row]] = {}
    for row in study.scored:
        by_id.setdefault(row["configuration_id"], {})[row["split"]] = row
    shown = telling(study.scored)
    complete = [rows for rows in by_id.values() if len(rows) == len(splits) and all(map(_is_compared, rows.values()))]
    labelled = [Complete(label(next(iter(rows.values())), shown), rows) for rows in complete]
    return sorted(labelled, key=lambda c: c.size)


def _is_compared(row: Row) -> bool:
    return row["backend"] == "none" or row["difference"] is not None


def is_worse(row: Row) -> bool:
    """Whether more errors than the baseline's are shown, after Holm's adjustment."""
    return row["p_holm"] is not None and row["p_holm"] < SIGNIFICANT and row["difference"] > 0


def relative(row: Row) -> float:
    """Relative increase of the errors; infinite where it is not known."""
    return float("inf") if row["relative"] is None else float(row["relative"])


def cost_of(row: Row) -> str:
    """In points with its interval, or "identical"."""
    if row["identical"]:
        return "identical"
    return points_interval(row["difference"], row["difference_low"], row["difference_high"])


def described(configuration: Complete) -> str:
    """Its name, size, what it saves, and what most of the rest is."""
    row = configuration.any
    of_it = row.get("largest_part")
    rest = f"; of it {of_it}" if of_it else ""
    return f"{configuration.label} ({megabytes(row['size_bytes'])}, {row['size_reduction']:.1%} smaller{rest})"


def names_of(configurations: Sequence[Complete]) -> str:
    """Names, the first ones of many."""
    return listed([c.label for c in configurations])


def listed(items: Sequence[str]) -> str:
    """Items, the first ones of many."""
    more = len(items) - _LISTED
    return "; ".join([*items[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def joined(words: Sequence[str], conjunction: str = "and") -> str:
    """An enumeration."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def megabytes(size: float) -> str:
    """Bytes as MB."""
    return f"{size / 1e6:.1f} MB"
