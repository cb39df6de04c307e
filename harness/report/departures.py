"""The first token at which decoding differs from full precision, utterance by utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Departures:
    """Of a cell's tokens from its baseline's, utterance by utterance.

    Attributes:
        identical: share of utterances with the same tokens.
        kept: share of the baseline's tokens that come before the first difference, over all utterances.
        place: median place of the first difference, as a share of the baseline's tokens, among the utterances
            that have one; `None` where none has.
    """

    identical: float
    kept: float
    place: float | None


def departures(cell: Sequence[Row], baseline: Sequence[Row]) -> Departures:
    """Compare the stored utterances of two cells on the same split, matched by id."""
    theirs = {row["id"]: list(row["tokens"]) for row in baseline}
    pairs = [(list(row["tokens"]), theirs[row["id"]]) for row in cell]
    common = [sum(1 for _ in takewhile(lambda ab: ab[0] == ab[1], zip(a, b, strict=False))) for a, b in pairs]
    departed = [same / max(len(b), 1) for same, (a, b) in zip(common, pairs, strict=True) if a != b]
    return Departures(
        1 - len(departed) / len(pairs),
        sum(common) / max(sum(len(b) for _, b in pairs), 1),
        median(departed) if departed else None,
    )
