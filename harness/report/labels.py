"""What a configuration is called where a run has several models or devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_TELLING = ("model", "revision", "dtype", "device")


def telling(rows: Sequence[Row]) -> list[str]:
    """The columns in which models or devices of the rows differ."""
    return [key for key in _TELLING if len({row[key] for row in rows}) > 1]


def label(row: Row, shown: Iterable[str] = ()) -> str:
    """The configuration's name, with the columns `shown` in front."""
    return " ".join([*(str(row[key]) for key in shown), row["configuration"]])
