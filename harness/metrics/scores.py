"""Scores of one utterance: computed when it is transcribed, and again to verify it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.metrics.alignment import align
from harness.metrics.counts import count_errors
from harness.metrics.loops import is_loop


def scores(reference: str, hypothesis: str, normalise: Callable[[str], str]) -> dict[str, Any]:
    """Both texts, raw and normalised, aligned, with the error counts.

    >>> scores("THE CAT", "the bat", str.lower)["substitutions"]
    1
    """
    expected, words = normalise(reference), normalise(hypothesis)
    counts = count_errors(expected, words)
    return {
        "reference": reference,
        "hypothesis": hypothesis,
        "normalised_reference": expected,
        "normalised_hypothesis": words,
        "alignment": align(expected.split(), words.split()),
        "substitutions": counts.words.substitutions,
        "deletions": counts.words.deletions,
        "insertions": counts.words.insertions,
        "reference_words": counts.words.reference,
        "character_errors": counts.characters.errors,
        "reference_characters": counts.characters.reference,
        "empty": not words,
        "loop": is_loop(expected, words),
    }
