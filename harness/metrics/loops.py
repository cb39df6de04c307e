"""Hallucination loops: one can outweigh a hundred ordinary errors, so it is reported apart."""

from __future__ import annotations

import zlib

COMPRESSION_LIMIT = 2.4
"""Whisper's own limit for repetitive text (Radford et al. 2022, arXiv 2212.04356, section 4.5)."""
LENGTH_LIMIT = 1.5


def compression_ratio(text: str) -> float:
    """Bytes of `text` over bytes of its zlib compression; above 2.4 it repeats itself. 0 for no text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def is_loop(reference: str, hypothesis: str, written: str | None = None) -> bool:
    """Whether a normalised hypothesis runs away: it repeats itself, or has over 1.5 times the words of the reference.

    Args:
        reference, hypothesis: words, or characters, separated by spaces.
        written: the hypothesis as it is written, where that has no such spaces.

    >>> is_loop("good morning to all of you", "good good good good good good good good good good")
    True
    """
    words = len(reference.split())
    too_long = words > 0 and len(hypothesis.split()) > LENGTH_LIMIT * words
    return too_long or compression_ratio(hypothesis if written is None else written) > COMPRESSION_LIMIT
