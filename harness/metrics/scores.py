"""What was said and heard in one utterance, as it is stored: computed when it is heard, and again to verify it."""

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
    expected, heard = normalise(reference), normalise(hypothesis)
    counts = count_errors(expected, heard)
    return {
        "reference": reference,
        "hypothesis": hypothesis,
        "normalised_reference": expected,
        "normalised_hypothesis": heard,
        "alignment": align(expected.split(), heard.split()),
        "substitutions": counts.words.substitutions,
        "deletions": counts.words.deletions,
        "insertions": counts.words.insertions,
        "reference_words": counts.words.reference,
        "character_errors": counts.characters.errors,
        "reference_characters": counts.characters.reference,
        "empty": not heard,
        "loop": is_loop(expected, heard),
    }
