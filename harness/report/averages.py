"""Means over test sets: of the sets as they are, of the corpora they are from, and of the languages that are spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Average:
    """Error rate of one configuration over several test sets, a fraction; unweighted.

    Attributes:
        over_sets: mean over test sets, as the Open ASR Leaderboard has it.
        over_corpora: mean over corpora, the sets of each averaged first.
        by_language: mean over the sets of each language.
    """

    over_sets: float
    over_corpora: float
    by_language: Mapping[str, float]

    @property
    def over_languages(self) -> float:
        """Mean over languages, the sets of each averaged first."""
        return fmean(self.by_language.values())


def corpora(rows: Sequence[Row]) -> list[str]:
    """The corpora of a run's speech as it was recorded, in the order of its rows."""
    return list(dict.fromkeys(row.get("corpus", "") for row in rows if _counts(row)))


def languages(rows: Sequence[Row]) -> list[str]:
    """The languages of a run, in the order of its rows; a test set of several is one of its own."""
    return list(dict.fromkeys(row.get("language", "") for row in rows))


def averages(rows: Sequence[Row]) -> dict[str, Average]:
    """By configuration id: the average of every configuration that is done on all test sets of the run.

    Empty where the run has a single corpus in one language, whose sets are best looked at one by one.
    """
    if len(corpora(rows)) < 2 and len(languages(rows)) < 2:
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
    by_corpus, by_language = _means(rows, "corpus"), _means(rows, "language")
    return Average(fmean(row["wer"] for row in rows), fmean(by_corpus.values()), by_language)


def _means(rows: Sequence[Row], column: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.get(column, ""), []).append(row["wer"])
    return {key: fmean(own) for key, own in found.items()}
