"""Hopeless cells are stopped early: those that are certainly worse than their baseline by more than a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.recognition.baseline import Baseline
from harness.stats.sample import by_speaker
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
            self._drawn = Drawn(*by_speaker(known, self._speakers), self._limit)
        return self._drawn.is_worse(by_speaker(rows, self._speakers)[0])
