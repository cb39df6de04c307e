"""Word and character errors; a corpus rate is a sum of errors over a sum of reference units, no mean of rates."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorRate:
    """Errors over reference units; additive, so that a mean of rates cannot be written by accident.

    >>> ErrorRate(1, 0, 0, 9) + ErrorRate(0, 1, 1, 1)
    ErrorRate(substitutions=1, deletions=1, insertions=1, reference=10)
    >>> (ErrorRate(1, 0, 0, 9) + ErrorRate(0, 1, 1, 1)).rate
    0.3
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0

    def __add__(self, other: ErrorRate) -> ErrorRate:
        return ErrorRate(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference + other.reference,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference unit; NaN where the reference is empty."""
        return self.errors / self.reference if self.reference else math.nan


@dataclass(frozen=True)
class UtteranceCounts:
    """Word and character errors of one utterance."""

    words: ErrorRate
    characters: ErrorRate


def count_errors(reference: str, hypothesis: str) -> UtteranceCounts:
    """Count the minimum edits from `reference` to `hypothesis`, both normalised already (jiwer's alignment).

    With an empty reference every hypothesis unit is an insertion.

    >>> count_errors("the cat sat", "the hat sat down").words
    ErrorRate(substitutions=1, deletions=0, insertions=1, reference=3)
    >>> count_errors("", "so it is").words
    ErrorRate(substitutions=0, deletions=0, insertions=3, reference=0)
    """
    return UtteranceCounts(
        _count(reference, hypothesis, reference.split(), hypothesis.split(), by_words=True),
        _count(reference, hypothesis, list(reference), list(hypothesis), by_words=False),
    )


def _count(reference: str, hypothesis: str, expected: list[str], found: list[str], *, by_words: bool) -> ErrorRate:
    import jiwer

    if not expected:
        return ErrorRate(insertions=len(found))
    process = jiwer.process_words if by_words else jiwer.process_characters
    output = process(reference, hypothesis)
    return ErrorRate(output.substitutions, output.deletions, output.insertions, len(expected))
