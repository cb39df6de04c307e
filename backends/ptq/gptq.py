"""GPTQ: columns are rounded one after another, and the rest of the row makes up for each error.

Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv 2210.17323, algorithm 1. Groups have their grids before the first column is rounded, so
that columns can be taken in the order of their inputs' power (the authors' `act_order` with static groups).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from backends.ptq._codes import Grid
from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Layer, Needs, Request
from backends.ptq._options import PtqOptions
from backends.ptq.rtn import layer_grid


class Gptq:
    """min ||W X - W' X||^2 over codes, greedily by columns."""

    needs = Needs.STATISTICS

    def transform(self, layer: Layer, request: Request) -> Transform:
        """None."""
        return Transform()

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Algorithm 1 on the layer's grid."""
        own = layer_grid(layer, request)
        return Solution(round_columns(layer, own, request.options), own)


def round_columns(layer: Layer, grid: Grid, options: PtqOptions, drift: Tensor | None = None) -> Tensor:
    """Codes of every column, (rows, columns) as floats.

    Args:
        layer: with the second moments H of its input.
        grid: of its weight.
        options: `damping`, `act_order`, `block_size`.
        drift: (columns, columns) in the order of `column_order`: what `gptaq` adds to the update, w_q times
            its row q; `None` for GPTQ.
    """
    second = layer.known.second
    order = column_order(second, options)
    factor = inverse_factor(second[order][:, order], options.damping)
    return Sweep(layer.weight[:, order].clone(), order, factor, drift).run(grid, options.block_size)


def column_order(second: Tensor, options: PtqOptions) -> Tensor:
    """Columns in the order in which they are rounded."""
    power = second.diagonal()
    return power.argsort(descending=True) if options.act_order else torch.arange(len(power), device=power.device)


def inverse_factor(second: Tensor, damping: float) -> Tensor:
    """The upper triangular U with U^T U = (H + lambda I)^-1, lambda = `damping` times H's mean diagonal.

    A column without any input gets the mean diagonal, so that its weights are simply rounded. Where H is too
    close to singular even so, the damping is raised tenfold until it is not.
    """
    diagonal = second.diagonal()
    mean = diagonal.mean().clamp(min=1e-12)
    while True:
        damped = second.double() + torch.diag(torch.where(diagonal > 0, damping * mean, mean)).double()
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if not failed:
                return upper.float()
        damping = max(damping * 10, 1e-6)


@dataclass
class Sweep:
    """A walk over the columns in their order; `weight` changes as errors are passed on.

    Attributes:
        weight: (rows, columns), columns in their order.
        order: of the columns.
        factor: of `inverse_factor`, in that order.
        drift: see `round_columns`.
        apart: (rows, columns), columns in their order; where it is not zero a weight is kept beside its
            code, and holds afterwards what its code leaves, in float16's precision. `None` for nowhere.
    """

    weight: Tensor
    order: Tensor
    factor: Tensor
    drift: Tensor | None = None
    apart: Tensor | None = None

    def run(self, grid: Grid, block_size: int) -> Tensor:
        """The codes, (rows, columns), columns in the weight's own order."""
        columns = len(self.order)
        codes = torch.empty_like(self.weight)
        for start in range(0, columns, block_size):
            end = min(start + block_size, columns)
            errors = torch.empty_like(self.weight[:, start:end])
            before = torch.empty_like(errors)
            for i in range(start, end):
                column = self.weight[:, i : i + 1].clone()
                own = grid.column(int(self.order[i]), columns)
                codes[:, i : i + 1] = own.codes(column)
                error = self._left(i, column - own.values(codes[:, i : i + 1])) / self.factor[i, i]
                self.weight[:, i:end] -= error @ self.factor[i : i + 1, i:end]
                if self.drift is not None:
                    self.weight[:, i:end] += column @ self.drift[i : i + 1, i:end]
                errors[:, i - start], before[:, i - start] = error[:, 0], column[:, 0]
            self.weight[:, end:] -= errors @ self.factor[start:end, end:]
            if self.drift is not None:
                self.weight[:, end:] += before @ self.drift[start:end, end:]
        return codes[:, self.order.argsort()]

    def _left(self, i: int, error: Tensor) -> Tensor:
        """What remains of the rounding error of column `i`, (rows, 1), once some weights are kept apart."""
        if self.apart is None:
            return error
        own = self.apart[:, i : i + 1]
        own[:] = torch.where(own != 0, error.half().float(), 0)
        return error - own


METHOD = Gptq()
