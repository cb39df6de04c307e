"""Shape of a distribution in one pass: how heavy its tails are, and which channels stand out."""

from __future__ import annotations

import torch
from torch import Tensor

OUTLIER = 6.0
"""A channel whose largest magnitude is more than so many times the median channel's stands out."""


class Moments:
    """Of values by channel, the last dimension; sums are kept in float64.

    Args:
        channels: how many.
    """

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._powers = torch.zeros(4, dtype=torch.float64)
        self._largest = torch.zeros(channels)
        self._low = self._high = 0.0

    def add(self, values: Tensor) -> None:
        """Take in values of any shape (..., channels)."""
        flat = values.detach().float().cpu().reshape(-1, values.shape[-1])
        if not len(flat):
            return
        self._count += flat.numel()
        double = flat.double()
        square = double * double
        self._powers += torch.stack([double.sum(), square.sum(), (square * double).sum(), (square * square).sum()])
        self._largest = torch.maximum(self._largest, flat.abs().amax(0))
        self._low, self._high = min(self._low, float(flat.amin())), max(self._high, float(flat.amax()))

    @property
    def kurtosis(self) -> float:
        """E[(x - mean)^4] / variance^2, 3 for a normal distribution; NaN where all values are equal."""
        mean, square, cube, fourth = self._means()
        central = fourth - 4 * mean * cube + 6 * mean * mean * square - 3 * mean**4
        return central / self._variance**2 if self._variance > 0 else float("nan")

    @property
    def range_ratio(self) -> float:
        """What one scale must span, from the smallest value or 0 to the largest, in standard deviations."""
        return (self._high - self._low) / self._variance**0.5 if self._variance > 0 else float("nan")

    @property
    def _variance(self) -> float:
        mean, square, *_ = self._means()
        return square - mean * mean

    def _means(self) -> list[float]:
        """Of the first four powers; NaN where nothing was taken in."""
        means: list[float] = (self._powers / self._count).tolist()
        return means

    @property
    def largest(self) -> float:
        """The infinity norm."""
        return float(self._largest.max())

    @property
    def peak_ratio(self) -> float:
        """The largest channel's magnitude over the median channel's; NaN where that is 0."""
        median = float(self._largest.median())
        return self.largest / median if median > 0 else float("nan")

    @property
    def outliers(self) -> list[int]:
        """The channels that stand out, most first."""
        limit = OUTLIER * float(self._largest.median())
        order = self._largest.argsort(descending=True).tolist()
        return [channel for channel in order if float(self._largest[channel]) > limit]
