"""MAPSSWE: the matched pairs sentence segment word error test of NIST.

Errors of neighbouring words depend on each other, so neither words nor whole sentences are the
unit: sentences are cut into segments wherever both systems have at least two words right in a row,
and the differences in errors by segment are taken as independent.

Source: Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition
algorithms", ICASSP; segmentation as in NIST SCTK, `sc_stats -t mapsswe`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.stats.sample import Sample

BOUNDARY = 2
"""So many words that both have right end a segment (SCTK's default)."""


@dataclass(frozen=True)
class MatchedPairs:
    """Result of the test.

    Attributes:
        segments: that have an error of either system.
        mean: errors of the first minus errors of the second, by segment.
        standard_deviation: of the same; `None` for fewer than two segments.
        z: mean over its standard error; `None` where the standard deviation is 0.
        p: two-sided, from the normal distribution.
    """

    segments: int
    mean: float | None
    standard_deviation: float | None
    z: float | None
    p: float | None


def matched_pairs(a: Sample, b: Sample) -> MatchedPairs:
    """The test on two systems' transcripts of the same utterances, in the same order."""
    pairs = zip(a.utterances, b.utterances, strict=True)
    found = [one - other for ua, ub in pairs for one, other in segments(ua.alignment, ub.alignment)]
    if len(found) < 2:
        return MatchedPairs(len(found), float(np.mean(found)) if found else None, None, None, None)
    mean, deviation = float(np.mean(found)), float(np.std(found, ddof=1))
    if not deviation:
        return MatchedPairs(len(found), mean, deviation, None, None)
    z = mean / (deviation / math.sqrt(len(found)))
    return MatchedPairs(len(found), mean, deviation, z, float(2 * stats.norm.sf(abs(z))))


def segments(alignment_a: str, alignment_b: str) -> list[tuple[int, int]]:
    """Errors of both systems in every segment of one utterance that has any.

    >>> segments("CSCCCI", "CCCCS")
    [(1, 0), (1, 1)]
    """
    found: list[tuple[int, int]] = []
    right = BOUNDARY
    for one, other in zip(_slots(alignment_a), _slots(alignment_b), strict=True):
        for in_a, in_b in zip(one, other, strict=True):
            if not in_a and not in_b:
                continue
            if right >= BOUNDARY:
                found.append((0, 0))
            right = 0
            found[-1] = (found[-1][0] + in_a, found[-1][1] + in_b)
        if not one[1] and not other[1]:
            right += 1
    return found


def _slots(alignment: str) -> Iterator[tuple[int, int]]:
    """For every reference word, and for the end: errors inserted before it, and whether it is wrong itself."""
    inserted = 0
    for step in alignment:
        if step == "I":
            inserted += 1
        else:
            yield inserted, int(step != "C")
            inserted = 0
    yield inserted, 0
