"""Tests of published claims: effects with intervals, and verdicts from them.

A claim says that an effect lies on one side of a boundary. Where the 95 % interval lies wholly on that side the claim
is confirmed, wholly on the other contradicted, and else the data cannot tell. The p-value is that of the effect lying
just on the boundary; it is two-sided, because either verdict is an assertion. It is the interval inverted, so it is
below .05 just where the interval leaves the boundary out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from harness.errors import DataError
from harness.stats.paired import FEWEST_BLOCKS, VERDICT_DRAWS, compare, detectable, excess, same_words
from harness.stats.rates import Rate, combined
from harness.stats.resampling import CONFIDENCE, RESAMPLES
from harness.stats.sample import Sample, check_paired


class Direction(StrEnum):
    """On which side of the boundary the effect is claimed to lie."""

    ABOVE = "above"
    BELOW = "below"
    WITHIN = "within"
    """Of deterministic numbers: no further from the claimed value than the margin."""


class Verdict(StrEnum):
    """What becomes of a claim."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    CANNOT_TELL = "cannot tell"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Finding:
    """A claim at one place: one model on one test set, or two of them against each other.

    Attributes:
        effect: what is claimed to lie above or below a margin, a fraction; its unit is the test's.
        low, high: 95 % interval of the same; NaN where there is none.
        side: 1 if the estimate lies on the claimed side, -1 if on the other, 0 if on the boundary.
        p: of the true effect lying on the boundary; 0 of a number that has no error, and 1 where fewer than
            `FEWEST_BLOCKS` blocks say anything.
        detectable: the smallest distance from the margin that would have been seen in 80 % of such studies, in the
            effect's unit; NaN where it cannot be estimated.
        blocks: how many were resampled, of the smaller sample; 0 of a number that has no error.
        blocked_by: `speaker` or `utterance`; empty of a number that has no error.
        identical: a cell gave the same words as the one it is compared with, everywhere.
    """

    effect: float
    low: float
    high: float
    side: int
    p: float
    detectable: float
    blocks: int
    blocked_by: str
    identical: bool = False


def non_inferior(cell: Sample, against: Sample, margin: float, direction: Direction) -> Finding:
    """Relative errors of `cell` beyond those of `against`, claimed below (or above) `margin`, such as .05.

    Decided on errors minus (1 + margin) times the other's, as `Difference.non_inferior` is; the interval that is told
    is that of the relative errors.

    Raises:
        DataError: the two are of different utterances.
    """
    told = compare(cell, against).difference
    more = Rate(excess(cell.blocks, against.blocks, margin), cell.blocks[:, 1])
    found = _decided([[more]], 0.0, direction, [(cell, against)])
    rate = against.total.rate
    return replace(
        found,
        effect=told.relative,
        low=told.relative_low,
        high=told.relative_high,
        detectable=found.detectable / rate if rate else math.nan,
    )


def difference_of(cell: Sample, against: Sample, margin: float, direction: Direction) -> Finding:
    """WER of `cell` minus that of `against`, claimed above or below `margin`, a fraction (.01 is a point).

    Raises:
        DataError: the two are of different utterances.
    """
    return _decided([[_gap(cell, against)]], margin, direction, [(cell, against)])


def between_splits(
    first: tuple[Sample, Sample],
    second: tuple[Sample, Sample],
    margin: float,
    direction: Direction,
    *,
    relative: bool = False,
) -> Finding:
    """What a cell costs beyond another on one test set, minus what it costs on a second one.

    Test sets of other speakers are independent samples; those of the same, which are one set under two conditions, are
    resampled together.

    Args:
        first, second: cell and the one it is compared with, on the two test sets.
        margin, direction: what is claimed of the difference of the differences, a fraction.
        relative: whether these are of errors over the other's, less 1, instead of WER.

    Raises:
        DataError: a cell and the one it is compared with are of different utterances; the splits share a part of
            their speakers; costs are relative to no errors.
    """
    names = set(first[0].block_names), set(second[0].block_names)
    if names[0] == names[1]:
        return between_models(first, second, margin, direction, relative=relative)
    if shared := names[0] & names[1]:
        raise DataError(f"the two test sets are no independent samples: both have {first[0].blocked_by} {min(shared)}")
    gaps = [_gap(*first, relative=relative)], [_gap(*second, relative=relative, sign=-1)]
    return _decided(gaps, margin, direction, [first, second])


def between_models(
    first: tuple[Sample, Sample],
    second: tuple[Sample, Sample],
    margin: float,
    direction: Direction,
    *,
    relative: bool = False,
) -> Finding:
    """What a cell costs beyond another in one model, minus what it costs in a second one, on the same speakers.

    The models may have transcribed different utterances of these speakers, who are resampled together. Arguments are
    those of `between_splits`.

    Raises:
        DataError: a cell and the one it is compared with are of different utterances, or the speakers differ.
    """
    strangers = set(first[0].block_names) ^ set(second[0].block_names)
    if strangers:
        raise DataError(f"the two models are not of the same speakers: {min(strangers)} is in one of them only")
    gaps = [_gap(*first, relative=relative), _gap(*second, relative=relative, sign=-1)]
    return _decided([gaps], margin, direction, [first, second])


def exact(value: float, claimed: float, margin: float, direction: Direction) -> Finding:
    """A number without error, such as a size reduction, beside the claimed one.

    It agrees within the margin, or is claimed to be at least (above) or at most (below) the claimed value, less or
    more by the margin.
    """
    beyond = {
        Direction.ABOVE: claimed - value,
        Direction.BELOW: value - claimed,
        Direction.WITHIN: abs(value - claimed),
    }
    side = 1 if beyond[direction] <= margin else -1
    return Finding(value, math.nan, math.nan, side, 0.0, math.nan, 0, "")


def judged(findings: Sequence[Finding]) -> tuple[Verdict, float]:
    """The verdict on a claim about all of these places, and its p-value.

    It is confirmed if it is at every place (the greatest p counts), and contradicted if it is at one, whose p is
    multiplied by the number of places. So a true claim is contradicted, and one that is false somewhere confirmed, in
    at most 2.5 % of studies each, however many places there are and however they depend on each other.

    Source: Berger 1982, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24(4)
    (intersection-union test); Bonferroni.
    """
    confirming = max(f.p if f.side > 0 else 1.0 for f in findings)
    contradicting = min(1.0, len(findings) * min(f.p if f.side < 0 else 1.0 for f in findings))
    p = min(confirming, contradicting)
    if p >= 1 - CONFIDENCE:
        return Verdict.CANNOT_TELL, p
    return (Verdict.CONFIRMED if confirming == p else Verdict.CONTRADICTED), p


def _decided(
    samples: Sequence[Sequence[Rate]], boundary: float, direction: Direction, pairs: Sequence[tuple[Sample, Sample]]
) -> Finding:
    """A sum of rates against its boundary; `pairs` are what the rates were computed from."""
    found = combined(samples, max(RESAMPLES, VERDICT_DRAWS // sum(len(rates[0].errors) for rates in samples)))
    beyond = found.estimate - boundary
    telling = found.blocks >= FEWEST_BLOCKS and _telling(samples, boundary) >= FEWEST_BLOCKS
    return Finding(
        found.estimate,
        found.interval.low,
        found.interval.high,
        int(np.sign(beyond if direction is Direction.ABOVE else -beyond)),
        found.p(boundary) if telling else 1.0,
        detectable(found.interval.standard_error, found.blocks) if telling else math.nan,
        found.blocks,
        pairs[0][0].blocked_by,
        all(same_words(a, b) for a, b in pairs),
    )


def _telling(samples: Sequence[Sequence[Rate]], boundary: float) -> int:
    """How many blocks say something: where a boundary is 0, those without a difference do not."""
    if boundary:
        return sum(len(rates[0].errors) for rates in samples)
    return sum(int(np.any([rate.errors != 0 for rate in rates], axis=0).sum()) for rates in samples)


def _gap(cell: Sample, against: Sample, *, relative: bool = False, sign: int = 1) -> Rate:
    """Errors of `cell` beyond the other's, over words, or over the other's errors."""
    check_paired(cell, against)
    if relative and not against.blocks[:, 0].any():
        raise DataError("what is compared with makes no errors on one of the two: costs relative to them are undefined")
    return Rate(cell.blocks[:, 0] - against.blocks[:, 0], against.blocks[:, 0 if relative else 1], sign)
