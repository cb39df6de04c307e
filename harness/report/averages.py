"""Means over test sets: of the sets as they are, and of the corpora that they are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Average:
    """Word error rate of one configuration over several test sets, a fraction; unweighted.

    Attributes:
        over_sets: mean over test sets, as the Open ASR Leaderboard has it.
        over_corpora: mean over corpora, the sets of each averaged first.
    """

    over_sets: float
    over_corpora: float


def corpora(rows: Sequence[Row]) -> list[str]:
    """The corpora of a run's speech as it was recorded, in the order of its rows."""
    return list(dict.fromkeys(row.get("corpus", "") for row in rows if _counts(row)))


def averages(rows: Sequence[Row]) -> dict[str, Average]:
    """By configuration id: the average of every configuration that is done on all test sets of the run.

    Empty where the run has a single corpus, whose sets are best looked at one by one.
    """
    if len(corpora(rows)) < 2:
        return {}
    splits = {row["split"] for row in rows if _counts(row)}
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if _counts(row) and row["status"] == "done" and row["wer"] is not None:
            found.setdefault(row["configuration_id"], {})[row["split"]] = row
    return {key: _average(list(own.values())) for key, own in found.items() if set(own) == splits}


def _counts(row: Row) -> bool:
    """Whether a mean holds the test set: none under a condition, and none without words."""
    return not row.get("condition") and row.get("reference_words") != 0


def _average(rows: Sequence[Row]) -> Average:
    by_corpus: dict[str, list[float]] = {}
    for row in rows:
        by_corpus.setdefault(row["corpus"], []).append(row["wer"])
    return Average(fmean(row["wer"] for row in rows), fmean(map(fmean, by_corpus.values())))
