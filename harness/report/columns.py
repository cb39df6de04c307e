"""The columns that say what a cell is, as text, and selections of cells by them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from backends import FULL_PRECISION, Supported
from backends.core.errors import did_you_mean
from harness.errors import ConfigError
from harness.experiment.cell import Configuration, spec_columns
from harness.experiment.tables import Model
from harness.stats.effects import factors_of, text_of

Row = Mapping[str, Any]
Wanted = Mapping[str, str | int | float | bool]
"""Values by column: of the cells that have them all."""
_SETS = ("modules", "parts")
"""Columns whose values are sets, written with `+` in any order."""


def check_columns(wanted: Wanted) -> None:
    """Refuse columns that no run can have; options (`library.option`) are known only where a run is.

    Raises:
        ConfigError: names the column and the known ones.
    """
    for column in wanted:
        if column not in _columns() and "." not in column:
            known = ", ".join(_columns())
            near = did_you_mean(column, _columns())
            raise ConfigError(f"{column!r} is not one of the columns {known}, nor an option (library.option){near}")


def levels(row: Row) -> dict[str, str]:
    """Every column that says what a cell is, as text; options as `library.option`, the granularity with its size."""
    return {name: text_of(row[name]) for name in _columns() if name in row} | factors_of(row)


def texts(wanted: Wanted) -> dict[str, str]:
    """The same of a selection."""
    found = {column: text_of(value) for column, value in wanted.items()}
    return {c: "+".join(sorted(text.split("+"))) if c in _SETS else text for c, text in found.items()}


@cache
def _columns() -> tuple[str, ...]:
    """Names of the columns that say what a cell is; sizes of groups and options are told by `factors_of`."""
    known = spec_columns(Configuration(Model(path=""), "none", FULL_PRECISION, "{}", "cpu", Supported()))
    return tuple(name for name in known if name not in ("group_size", "options"))
