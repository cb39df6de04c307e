"""GPTAQ: GPTQ against what full precision would have put out, its inputs having drifted by earlier rounding.

Source: Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration", arXiv
2504.02692, algorithm 1: with X the input that a layer really has and X~ that of full precision, the residual
W (X~ - X) is corrected column by column beside the rounding error.
"""

from __future__ import annotations

from torch import Tensor

from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Layer, Needs, Request
from backends.ptq._options import PtqOptions
from backends.ptq.gptq import column_order, inverse_factor, round_columns
from backends.ptq.rtn import layer_grid

STRENGTH = 0.25
"""Share of the drift that is corrected; the authors' code takes a quarter, so as not to overfit calibration."""


class Gptaq:
    """min ||W X~ - W' X||^2 over codes, greedily by columns."""

    needs = Needs.EXACT

    def transform(self, layer: Layer, request: Request) -> Transform:
        """None."""
        return Transform()

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Algorithm 1 on the layer's grid."""
        own = layer_grid(layer, request)
        return Solution(round_columns(layer, own, request.options, _drift(layer, request.options)), own)


def _drift(layer: Layer, options: PtqOptions) -> Tensor | None:
    """P = ((dX X^T U^T) . M) U with M strictly upper triangular (the paper's eq. 16 in U^T U = H^-1).

    `None` for a layer outside of the blocks, such as a head, where full precision's inputs are not at hand: GPTQ.
    """
    statistics = layer.known
    if statistics.cross is None:
        return None
    order = column_order(statistics.second, options)
    factor = inverse_factor(statistics.second[order][:, order], options.damping)
    return STRENGTH * (statistics.cross[order][:, order] @ factor.T).triu(1) @ factor


METHOD = Gptaq()
