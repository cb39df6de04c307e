"""Intervals and tests by resampling blocks; the resampling itself is scipy's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[Any]
Statistic = Callable[..., Values]

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 20111
"""Results are the same in every run; nothing else uses this generator."""
_BATCH_ELEMENTS = 200_000
"""Resamples are drawn in batches that stay in the processor's cache, which takes two thirds of the time."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval with the standard error of the estimate."""

    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """A statistic with what it was in every resample.

    Attributes:
        estimate: of the samples as they are.
        interval: of the estimate, with its standard error.
        distribution: the statistic in every resample; empty where there are fewer than two blocks.
        blocks: of the smallest sample.
    """

    estimate: float
    interval: Interval
    distribution: Values
    blocks: int

    def p(self, boundary: float) -> float:
        """Two-sided p-value of the true value being `boundary`; NaN where there is no interval.

        The interval inverted: 1 minus the confidence of the widest interval that leaves the boundary out, its tails
        expanded and its sides made equal in the same way. So it is below .05 just where the boundary lies outside of
        the 95 % interval. The smallest value depends on the number of resamples.
        """
        if not len(self.distribution):
            return math.nan
        deviations, distance = self.distribution - self.estimate, abs(boundary - self.estimate)
        beyond = max(np.count_nonzero(deviations >= distance), np.count_nonzero(deviations <= -distance))
        tail = (beyond + 1) / (len(deviations) + 1)
        quantile = -stats.norm.ppf(min(tail, 0.5)) / _inflation(self.blocks)
        return float(min(1.0, 2 * stats.t.sf(quantile, self.blocks - 1)))


def interval(samples: Sequence[Sequence[Values]], statistic: Statistic, resamples: int = RESAMPLES) -> Interval:
    """The interval of `resample` alone."""
    return resample(samples, statistic, resamples).interval


def resample(samples: Sequence[Sequence[Values]], statistic: Statistic, resamples: int = RESAMPLES) -> Resampled:
    """Bootstrap of `statistic` over independent samples of blocks, with its interval.

    Args:
        samples: of each the columns, arrays of (blocks,); the columns of one sample are resampled together.
        statistic: takes one index array for every sample, (..., blocks), and gives values of shape (...).
        resamples: how many.

    The tails of the bootstrap distribution are cut where few blocks ask for it: with n blocks at
    Phi(-sqrt(n / (n - 1)) t), t being Student's quantile with n - 1 degrees of freedom (the expanded
    percentile interval); the standard error is multiplied by sqrt(n / (n - 1)). The interval is symmetric
    about the estimate, both sides as wide as the wider one: where speakers differ much, the narrower
    side is too short (experiments/benchmarks/interval_coverage.txt has the coverage). Deterministic.

    Source: Hesterberg 2015, "What Teachers Should Know About the Bootstrap", The American Statistician
    69(4), section 4.3 (expanded percentile interval); scipy.stats.bootstrap.
    """
    sizes = [len(columns[0]) for columns in samples]
    fewest = min(sizes)
    estimate = float(statistic(*(np.arange(size) for size in sizes)))
    if fewest < 2:
        return Resampled(estimate, Interval(math.nan, math.nan, math.nan), np.empty(0), fewest)
    inflation = _inflation(fewest)
    tail = stats.norm.cdf(-inflation * stats.t.ppf((1 + CONFIDENCE) / 2, fewest - 1))

    def value(*indices: Values, axis: int = -1) -> Values:
        return statistic(*indices)

    with np.errstate(invalid="ignore"), warnings.catch_warnings():  # a ratio may be infinite in a resample
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # and the interval NaN then
        drawn = stats.bootstrap(
            [np.arange(size) for size in sizes],
            value,
            vectorized=True,
            axis=-1,
            n_resamples=resamples,
            batch=max(1, _BATCH_ELEMENTS // sum(sizes)),
            confidence_level=1 - 2 * float(tail),
            method="percentile",
            rng=np.random.default_rng(SEED),
        )
    low, high = drawn.confidence_interval
    half = max(estimate - float(low), float(high) - estimate)
    found = Interval(estimate - half, estimate + half, float(drawn.standard_error) * inflation)
    return Resampled(estimate, found, drawn.bootstrap_distribution, fewest)


def _inflation(blocks: int) -> float:
    return math.sqrt(blocks / (blocks - 1))


def sign_flip_p(differences: Values, resamples: int = RESAMPLES) -> float:
    """Two-sided permutation p-value of a sum being 0, the sign of every block's difference flipped at random.

    Exact where there are no more than `resamples` ways to flip; the smallest value that n blocks can
    give is 2 / 2^n. Deterministic.

    Source: scipy.stats.permutation_test; Ernst 2004, "Permutation Methods", Statistical Science 19(4).
    """

    def total(values: Values, axis: int = -1) -> Values:
        return values.sum(axis=axis)

    result = stats.permutation_test(
        (differences,),
        total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_ELEMENTS // len(differences)),
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def smallest_p(blocks: int, resamples: int = RESAMPLES) -> float:
    """The smallest p-value that `sign_flip_p` can give for so many blocks."""
    return max(2 / 2**blocks, 2 / (resamples + 1))
