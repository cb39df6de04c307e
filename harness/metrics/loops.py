"""Hallucination loops: one can outweigh a hundred ordinary errors, so it is reported apart."""

from __future__ import annotations

import zlib

COMPRESSION_LIMIT = 2.4
"""Whisper's own limit for repetitive text (Radford et al. 2022, arXiv 2212.04356, section 4.5)."""
COMPRESSION_MARGIN = 1.2
"""Times the reference's own ratio: scripts of several bytes a letter compress beyond the limit without repeating."""
LENGTH_LIMIT = 1.5
MORE_WORDS = 2
"""As many beyond those of the reference are no loop: of one or two words, half as many more is one."""


def compression_ratio(text: str) -> float:
    """Bytes of `text` over bytes of its zlib compression; above 2.4 it repeats itself. 0 for no text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def is_loop(reference: str, hypothesis: str, written: tuple[str, str] | None = None) -> bool:
    """Whether a normalised hypothesis runs away.

    It repeats itself, more than the reference does; or it has over 1.5 times the reference's words, and three more.

    Args:
        reference, hypothesis: words, or characters, separated by spaces.
        written: both as they are written, where that has no such spaces.

    >>> is_loop("good morning to all of you", "good good good good good good good good good good")
    True
    >>> is_loop("goodbye", "good bye")
    False
    """
    words, found = len(reference.split()), len(hypothesis.split())
    if words and found > max(LENGTH_LIMIT * words, words + MORE_WORDS):
        return True
    own, other = map(compression_ratio, written or (reference, hypothesis))
    return other > max(COMPRESSION_LIMIT, COMPRESSION_MARGIN * own)
