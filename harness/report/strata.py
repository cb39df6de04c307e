"""Errors by stratum: a cell beside full precision by length, noise and speaker, and in hallucination loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = Mapping[str, Any]
Pair = tuple[Row, Row]
PARTS = 3
"""Equal parts into which utterances are sorted by a number."""
SPEAKERS = 3
"""Speakers that are named: those with the largest losses."""


@dataclass(frozen=True)
class Stratum:
    """Some utterances of a cell: how many, and word error rates of the cell and of its baseline, fractions."""

    by: str
    name: str
    utterances: int
    wer: float
    baseline_wer: float


def strata(cell: Sequence[Row], baseline: Sequence[Row]) -> list[Stratum]:
    """The strata of two cells on the same split, matched by id; speakers only where there are several of them."""
    theirs = {row["id"]: row for row in baseline}
    pairs = [(row, theirs[row["id"]]) for row in cell]
    return [
        *_by_number("length", "s", pairs, lambda row: row["seconds"]),
        *_by_number("estimated SNR", "dB", pairs, lambda row: row.get("estimated_snr_db")),
        *_by_speaker(pairs),
        *_by_fate(pairs),
    ]


def _by_number(by: str, unit: str, pairs: Sequence[Pair], value: Callable[[Row], float | None]) -> Iterator[Stratum]:
    values = [value(row) for row, _ in pairs]
    if any(v is None for v in values) or len(set(values)) < PARTS:
        return
    order = np.argsort(np.array(values, dtype=float), kind="stable")
    for part in np.array_split(order, PARTS):
        own = [float(values[i]) for i in part]  # type: ignore[arg-type]
        yield from _stratum(by, f"{min(own):.1f} to {max(own):.1f} {unit}", [pairs[i] for i in part])


def _by_speaker(pairs: Sequence[Pair]) -> Iterator[Stratum]:
    by_speaker: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair[0]["speaker"] is None:
            return
        by_speaker.setdefault(pair[0]["speaker"], []).append(pair)
    if not 1 < len(by_speaker) < len(pairs):
        return
    found = [stratum for name, own in by_speaker.items() for stratum in _stratum("speaker", name, own)]
    yield from sorted(found, key=lambda s: s.baseline_wer - s.wer)[:SPEAKERS]


def _by_fate(pairs: Sequence[Pair]) -> Iterator[Stratum]:
    """Looping and empty transcripts of the cell apart from all others."""
    for name, own in (
        ("hallucination loop", [p for p in pairs if p[0]["loop"]]),
        ("empty", [p for p in pairs if p[0]["empty"]]),
        ("neither", [p for p in pairs if not p[0]["loop"] and not p[0]["empty"]]),
    ):
        yield from _stratum("transcript", name, own)


def _stratum(by: str, name: str, pairs: Sequence[Pair]) -> Iterator[Stratum]:
    words = sum(row["reference_words"] for row, _ in pairs)
    if words:
        own, baseline = (sum(map(_errors, rows)) / words for rows in zip(*pairs, strict=True))
        yield Stratum(by, name, len(pairs), own, baseline)


def _errors(row: Row) -> int:
    return int(row["substitutions"] + row["deletions"] + row["insertions"])
