"""Words where nothing was said: how many a minute, in which share of the recordings, and beside full precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats.rates import Rate, combined
from harness.stats.resampling import Values, sign_flip_p
from harness.stats.sample import Sample


@dataclass(frozen=True)
class Hallucinated:
    """Of the recordings whose references are empty: words a minute, and the share of recordings that have any."""

    per_minute: float
    share: float


@dataclass(frozen=True)
class MoreHallucinated:
    """Words a minute beyond those of another system on the same recordings, which are resampled one by one.

    Attributes:
        per_minute: difference.
        low, high: its interval; NaN with a single recording.
        p: of there being no difference, by flipping signs of recordings; NaN with a single one.
    """

    per_minute: float
    low: float
    high: float
    p: float


def hallucinated(sample: Sample) -> Hallucinated | None:
    """What was transcribed where nothing was said; `None` where something was said everywhere."""
    words, seconds = _columns(sample)
    if not seconds.sum():
        return None
    return Hallucinated(float(60 * words.sum() / seconds.sum()), float(np.mean(words > 0)))


def more_hallucinated(cell: Sample, against: Sample) -> MoreHallucinated | None:
    """How much more a cell makes up than another; `None` where something was said everywhere, or they do not pair."""
    (words, seconds), (others, _) = _columns(cell), _columns(against)
    if not seconds.sum() or _ids(cell) != _ids(against):
        return None
    gap = words - others
    found = combined([[Rate(60 * gap, seconds)]])
    p = sign_flip_p(gap) if len(gap) > 1 else math.nan
    return MoreHallucinated(found.estimate, found.interval.low, found.interval.high, p)


def _columns(sample: Sample) -> tuple[Values, Values]:
    """Words and seconds of every recording without a reference."""
    own = [(len(u.hypothesis.split()), u.seconds) for u in sample.utterances if not u.reference]
    words, seconds = np.array(own, dtype=float).reshape(-1, 2).T
    return words, seconds


def _ids(sample: Sample) -> list[str]:
    return [u.id for u in sample.utterances if not u.reference]
