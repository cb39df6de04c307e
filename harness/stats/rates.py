"""Sums and differences of rates, errors over words, over one or several samples of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.resampling import RESAMPLES, Resampled, Values, resample


@dataclass(frozen=True, eq=False)
class Rate:
    """Errors over words, to be added or taken away.

    Attributes:
        errors, words: by block, (blocks,); of a difference the errors are a difference too.
        sign: 1 or -1.
    """

    errors: Values
    words: Values
    sign: int = 1

    def of(self, index: Values) -> Values:
        """The signed rate of resamples, (..., blocks) to (...); without words there are no errors."""
        words = self.words[index].sum(-1)
        return self.sign * (self.errors[index].sum(-1) / np.where(words > 0, words, 1))


def combined(samples: Sequence[Sequence[Rate]], resamples: int = RESAMPLES) -> Resampled:
    """The sum of all rates, bootstrapped.

    Args:
        samples: independent of each other; the rates of one sample have the same blocks and are resampled together.
        resamples: how many.
    """

    def total(*indices: Values) -> Values:
        values = [rate.of(i) for rates, i in zip(samples, indices, strict=True) for rate in rates]
        return np.sum(values, axis=0)

    return resample([[rate.errors for rate in rates] for rates in samples], total, resamples)
