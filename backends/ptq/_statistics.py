"""What calibration tells of a linear layer's input: second moments, extremes, and some of its vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backends.ptq._linear import Transform

SAMPLE = 512
"""So many input vectors of a layer are kept as they are."""


@dataclass(frozen=True)
class Statistics:
    """Of the inputs x of one layer over all calibration tokens that count.

    Attributes:
        count: tokens.
        second: mean of x x^T, (columns, columns) of float32: half the Hessian of the layer's squared
            output error with respect to any row of its weight.
        cross: mean of (x_full - x) x^T where x_full is the input that full precision has there; `None`
            where it was not asked for.
        largest: largest |x| by channel, (columns,).
        mean: mean |x| by channel, (columns,).
        sample: some inputs, (at most `SAMPLE`, columns).
    """

    count: int
    second: Tensor
    cross: Tensor | None
    largest: Tensor
    mean: Tensor
    sample: Tensor

    def transformed(self, transform: Transform) -> Statistics:
        """The same of T x; extremes and means by channel are then those of the sample where T rotates."""
        if transform == Transform():
            return self
        of = transform.of_input
        sample = of(self.sample)
        largest, mean = sample.abs().amax(0), sample.abs().mean(0)
        if not transform.rotated and transform.scale is not None:
            largest, mean = self.largest / transform.scale, self.mean / transform.scale
        cross = None if self.cross is None else of(of(self.cross).T).T
        return replace(self, second=of(of(self.second).T).T, cross=cross, largest=largest, mean=mean, sample=sample)

    def loss(self, error: Tensor) -> float:
        """Mean over tokens of the squared output error |E x|^2 of a weight error E, (rows, columns)."""
        return float(torch.einsum("ij,jk,ik->", error, self.second, error))


class Accumulator:
    """Statistics in the making; holds no more than one matrix of (columns, columns) and the sample.

    Args:
        columns: of the layer.
        exact: whether `add` is given full-precision inputs too.
        device: where the inputs are.
    """

    def __init__(self, columns: int, exact: bool = False, device: torch.device | None = None) -> None:
        self._count = 0
        self._second = torch.zeros(columns, columns, device=device)
        self._cross = torch.zeros(columns, columns, device=device) if exact else None
        self._largest, self._sum = (torch.zeros(columns, device=device) for _ in range(2))
        self._samples: list[Tensor] = []

    def add(self, inputs: Tensor, exact: Tensor | None = None) -> None:
        """Take in tokens, (tokens, columns), and what full precision has in their place."""
        inputs = inputs.detach().float()
        if not len(inputs):
            return
        self._count += len(inputs)
        self._second += inputs.T @ inputs
        if self._cross is not None and exact is not None:
            self._cross += (exact.detach().float() - inputs).T @ inputs
        self._largest = torch.maximum(self._largest, inputs.abs().amax(0))
        self._sum += inputs.abs().sum(0)
        self._samples.append(inputs[:: max(1, len(inputs) // SAMPLE)][:SAMPLE].clone())
        if sum(map(len, self._samples)) > 8 * SAMPLE:
            self._samples = [self._thinned()]

    def _thinned(self) -> Tensor:
        """At most `SAMPLE` vectors, evenly from all that are kept."""
        together = torch.cat(self._samples)
        chosen = torch.linspace(0, len(together) - 1, min(SAMPLE, len(together))).long()
        return together[chosen]

    @property
    def count(self) -> int:
        """Tokens so far."""
        return self._count

    def statistics(self) -> Statistics:
        """What was gathered."""
        number = self._count
        cross = None if self._cross is None else self._cross / number
        return Statistics(number, self._second / number, cross, self._largest, self._sum / number, self._thinned())
