"""What a configuration is called where a run has several models or devices."""

from __future__ import annotations

import re
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


def remarks_of(reason: str | None) -> list[str]:
    """What the remarks of a finished cell count: recordings left out or cut, transcripts that ended at their caps.

    >>> remarks_of("bytes are those of its file; 2 of 9 utterances were cut at the end of the model's window")
    ["2 of 9 utterances were cut at the end of the model's window"]
    """
    return [part for part in (reason or "").split("; ") if re.match(r"\d+ of \d+ (utterances|transcripts) ", part)]
