"""What a run's errors are counted in, in words: a test set is scored by words or by characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Unit(NamedTuple):
    """How errors of a kind are called.

    Attributes:
        noun, plural: what is counted.
        rate: short for the rate.
    """

    noun: str
    plural: str
    rate: str

    @property
    def full_rate(self) -> str:
        """The rate in full."""
        return f"{self.noun} error rate"


WORDS, CHARACTERS = Unit("word", "words", "WER"), Unit("character", "characters", "CER")
BOTH = Unit("word or character", "words or characters", "WER or CER")


def unit_of(rows: Iterable[Mapping[str, Any]]) -> Unit:
    """What the errors of some rows of the results are counted in.

    >>> unit_of([{"error_unit": "character"}]).full_rate
    'character error rate'
    """
    found = {row.get("error_unit", "word") for row in rows}
    return BOTH if len(found) > 1 else CHARACTERS if found == {"character"} else WORDS
