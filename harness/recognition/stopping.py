"""Hopeless cells are stopped early: those that are certainly worse than their baseline by more than a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.recognition.baseline import Baseline
from harness.stats.sequential import Drawn

Row = Mapping[str, Any]


class Stopping:
    """Looks at a cell after every batch.

    Args:
        baseline: of the cell; while it is not done, nothing is stopped.
        speakers: the utterances of every speaker of the split, in the order in which they are decoded.
        worse_by: the limit, a fraction.
    """

    def __init__(self, baseline: Baseline, speakers: Sequence[Sequence[str]], worse_by: float) -> None:
        self._baseline, self._speakers, self._limit = baseline, speakers, worse_by
        self._drawn: Drawn | None = None

    def is_hopeless(self, rows: Sequence[Row]) -> bool:
        """Whether a cell that has these rows so far is worse by more than the limit."""
        if self._drawn is None:
            known = self._baseline.rows()
            if known is None:
                return False
            self._drawn = Drawn(*_counts(known, self._speakers), self._limit)
        return self._drawn.is_worse(_counts(rows, self._speakers)[0])


def _counts(rows: Sequence[Row], speakers: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Errors and reference words of the first speakers of whom all utterances are there, (speakers,) each."""
    by_id = {row["id"]: row for row in rows}
    found = []
    for own in speakers:
        if any(name not in by_id for name in own):
            break
        judged = [by_id[name] for name in own if not by_id[name]["error"]]
        errors = sum(row["substitutions"] + row["deletions"] + row["insertions"] for row in judged)
        found.append((errors, sum(row["reference_words"] for row in judged)))
    errors, words = np.array(found, dtype=float).reshape(-1, 2).T
    return errors, words
