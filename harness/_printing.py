"""Text from elsewhere for a terminal: what a model writes or a file is called must not steer it."""

from __future__ import annotations

import unicodedata

_STEERING = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Controls, formats (such as what turns the direction of writing), and what is no character."""


def printable(text: str) -> str:
    """Line by line the same text, with whatever steers a terminal written as an escape.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "\n".join("".join(map(_shown, line)) for line in text.split("\n"))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _STEERING:
        return character
    return character.encode("unicode_escape").decode("ascii")


def counted(count: int, word: str, words: str | None = None) -> str:
    """A count with its noun.

    >>> counted(1, "speaker"), counted(4140, "word"), counted(0, "batch", "batches")
    ('1 speaker', '4,140 words', '0 batches')
    """
    return f"{count:,} {word if count == 1 else words or f'{word}s'}"
