"""AWQ: channels with strong inputs are scaled up before rounding, with an exponent that is searched.

Source: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and
Acceleration", arXiv 2306.00978: s = s_X^alpha with s_X the mean magnitude of the input by channel and alpha on a
grid over [0, 1] (eq. 5), chosen by the error of the layer's output (eq. 4), then weight clipping.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from backends.ptq._codes import grid
from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Layer, Needs, Request
from backends.ptq.rtn import METHOD as ROUND_TO_NEAREST

_SMALLEST = 1e-4


class Awq:
    """argmin over alpha of ||W X - Q(W diag(s)) diag(s)^-1 X||, never worse than alpha = 0, which is plain rounding."""

    needs = Needs.STATISTICS

    def transform(self, layer: Layer, request: Request) -> Transform:
        """The scales of the best exponent."""
        exponents = torch.linspace(0, 1, request.options.search_steps + 1).tolist()
        losses = {alpha: _loss(layer, scaling(layer, alpha), request) for alpha in exponents}
        best = min(losses, key=lambda alpha: losses[alpha])
        return Transform(None if best == 0 else scaling(layer, best))

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Round to nearest on a clipped range."""
        clipped = replace(request, options=replace(request.options, clip=True))
        return ROUND_TO_NEAREST.solve(layer, clipped)


def scaling(layer: Layer, alpha: float) -> Tensor:
    """What the weight's columns are multiplied by, (columns,), its geometric middle at 1."""
    scale = layer.known.mean.clamp(min=_SMALLEST) ** alpha
    return scale / (scale.max() * scale.min()).sqrt()


def _loss(layer: Layer, scale: Tensor, request: Request) -> float:
    """Mean squared error of the layer's output, eq. 4."""
    scaled = layer.weight * scale
    return layer.known.loss(grid(scaled, request.code).rounded(scaled) / scale - layer.weight)


METHOD = Awq()
