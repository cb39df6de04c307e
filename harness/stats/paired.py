"""Paired comparison of two systems on the same recordings: difference, interval, tests, detectable difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from harness.metrics import ErrorRate
from harness.stats.mapsswe import MatchedPairs, matched_pairs
from harness.stats.resampling import CONFIDENCE, RESAMPLES, Values, interval, sign_flip_p
from harness.stats.sample import Sample, check_paired

MARGIN = 0.05
"""A system is as good as another if it certainly makes fewer than 5 % more errors."""
POWER = 0.8
FEWEST_BLOCKS = 6
"""With fewer the permutation test cannot reach .05: 2 / 2^5 is more."""
VERDICT_DRAWS = 2_000_000
"""Blocks drawn for the one yes or no, which should not hang on chance: 10^5 resamples of 20 speakers."""


@dataclass(frozen=True)
class System:
    """One system: its errors, and its word error rate with an interval (fractions)."""

    errors: ErrorRate
    wer: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much more the first system errs than the second.

    Attributes:
        wer: difference in word error rate, first minus second, a fraction.
        low, high: interval of the same; NaN with a single block, or where the outputs are identical.
        p_permutation: of there being no difference; NaN where the outputs are identical.
        relative: the first's errors over the second's, minus 1; NaN where the second makes none.
        relative_low, relative_high: interval of the same, found on the logarithm of the ratio; NaN where
            a resample has no errors.
        detectable: the smallest difference that a single test at .05 on such a test set would show in
            80 % of cases; NaN where it cannot be estimated, also because fewer than `FEWEST_BLOCKS`
            blocks differ at all.
        non_inferior: whether the first certainly makes fewer than `MARGIN` more errors: the whole interval of
            errors minus (1 + margin) times the second's lies below 0.
    """

    wer: float
    low: float
    high: float
    p_permutation: float
    relative: float
    relative_low: float
    relative_high: float
    detectable: float
    non_inferior: bool


@dataclass(frozen=True)
class Changes:
    """What the first system does otherwise than the second.

    Attributes:
        changed: utterances with other words.
        worse, better: of these, those with more, and with fewer errors.
        added, removed: how many more, and how many fewer errors they have.
    """

    changed: int
    worse: int
    better: int
    added: int
    removed: int


@dataclass(frozen=True)
class Comparison:
    """Two systems, paired by utterance, resampled by block.

    Attributes:
        samples: of the systems a and b.
        difference: a minus b.
        mapsswe: NIST's test.
        identical: they gave the same words for every utterance, so nothing was tested.
        blocked_by: `speaker`, or `utterance` where there are not two known speakers.
        blocks: how many; with fewer than six the permutation test cannot reach .05.
    """

    samples: tuple[Sample, Sample]
    difference: Difference
    mapsswe: MatchedPairs
    identical: bool
    blocked_by: str
    blocks: int

    @cached_property
    def a(self) -> System:
        """The first system alone."""
        return system(self.samples[0])

    @cached_property
    def b(self) -> System:
        """The second system alone."""
        return system(self.samples[1])

    @cached_property
    def changes(self) -> Changes:
        """Of the first system against the second."""
        pairs = list(zip(*(sample.utterances for sample in self.samples), strict=True))
        gaps = [a.errors.errors - b.errors.errors for a, b in pairs]
        added, removed = [gap for gap in gaps if gap > 0], [-gap for gap in gaps if gap < 0]
        changed = sum(a.hypothesis != b.hypothesis for a, b in pairs)
        return Changes(changed, len(added), len(removed), sum(added), sum(removed))


def compare(a: Sample, b: Sample) -> Comparison:
    """Compare two systems on the same utterances.

    Raises:
        DataError: they are of different utterances, or there is nothing to compare.
    """
    check_paired(a, b)
    identical = same_words(a, b)
    found = _no_difference(a) if identical else difference(a.blocks, b.blocks)
    return Comparison((a, b), found, matched_pairs(a, b), identical, a.blocked_by, len(a.block_names))


def same_words(a: Sample, b: Sample) -> bool:
    """Whether two systems gave the same words for every utterance."""
    return all(x.hypothesis == y.hypothesis for x, y in zip(a.utterances, b.utterances, strict=True))


def system(sample: Sample) -> System:
    """The word error rate of one system with its interval."""
    errors, words = sample.blocks.T
    found = interval([[errors]], lambda i: errors[i].sum(-1) / _some(words[i].sum(-1)))
    return System(sample.total, sample.total.rate, float(np.maximum(found.low, 0)), found.high)


def difference(a: Values, b: Values, resamples: int = RESAMPLES, draws: int = VERDICT_DRAWS) -> Difference:
    """How much more the first system errs than the second, from errors and reference words by block, (blocks, 2).

    Deterministic. See `harness.stats.resampling` for the interval and the test. `non_inferior` is found with more
    resamples, in all `draws` blocks.
    """
    errors_a, errors_b, words = a[:, 0], b[:, 0], a[:, 1]
    gap, more = errors_a - errors_b, excess(a, b, MARGIN)
    absolute = interval([[gap]], lambda i: gap[i].sum(-1) / _some(words[i].sum(-1)), resamples)
    ratio = interval([[gap]], lambda i: _log_ratio(errors_a[i].sum(-1), errors_b[i].sum(-1)), resamples)
    beyond = interval([[gap]], lambda i: more[i].sum(-1) / _some(words[i].sum(-1)), max(resamples, draws // len(gap)))
    return Difference(
        float(gap.sum() / words.sum()),
        absolute.low,
        absolute.high,
        sign_flip_p(gap, resamples) if len(gap) > 1 else math.nan,
        float(np.expm1(_log_ratio(errors_a.sum(), errors_b.sum()))),
        float(np.expm1(ratio.low)),
        float(np.expm1(ratio.high)),
        detectable(absolute.standard_error, len(gap)) if np.count_nonzero(gap) >= FEWEST_BLOCKS else math.nan,
        beyond.high < 0,
    )


def excess(a: Values, b: Values, margin: float) -> Values:
    """Errors of the first minus (1 + margin) times the second's, by block: above 0 where it is worse."""
    return a[:, 0] - (1 + margin) * b[:, 0]


def _no_difference(sample: Sample) -> Difference:
    """Of identical hypotheses: as good where so many errors would have shown `MARGIN` more of them.

    None seen among n words bounds their rate by 3 / n (95 %), which must lie below `MARGIN` times the error rate.

    Source: Hanley & Lippman-Hand 1983, "If Nothing Goes Wrong, Is Everything All Right?", JAMA 249(13).
    """
    nan = math.nan
    enough = sample.total.errors >= 3 / MARGIN and len(sample.block_names) >= FEWEST_BLOCKS
    return Difference(0.0, nan, nan, nan, 0.0, nan, nan, nan, enough)


def _some(words: Values) -> Values:
    """Words to divide by: a resample of wordless blocks alone has no rate, and counts as one without errors."""
    return np.maximum(words, 1)


def _log_ratio(errors_a: Values, errors_b: Values) -> Values:
    """Logarithm of errors over errors: infinite where one makes none, 0 where neither does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(errors_a) - np.log(errors_b)
    return np.where((errors_a == 0) & (errors_b == 0), 0.0, ratio)


def detectable(standard_error: float, blocks: int) -> float:
    """The true difference that would be significant in 80 % of studies with this standard error; NaN if it is 0.

    (t(1 - alpha / 2) + t(power)) times the standard error, with blocks - 1 degrees of freedom.

    Source: Bloom 1995, "Minimum Detectable Effects", Evaluation Review 19(5).
    """
    if blocks < 2 or not standard_error > 0:
        return math.nan
    quantiles = stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], blocks - 1)
    return float(quantiles.sum()) * standard_error
