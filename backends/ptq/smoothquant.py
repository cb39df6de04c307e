"""SmoothQuant: the difficulty of rounding activations is moved into the weights, channel by channel.

Source: Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models", arXiv 2211.10438. The paper folds the scales into the normalisation before; here every
layer divides its own input, so that layers need not share scales and any `nn.Linear` will do.
"""

from __future__ import annotations

from torch import Tensor

from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Layer, Needs, Request
from backends.ptq.rtn import METHOD as ROUND_TO_NEAREST

DEFAULT_ALPHA = 0.8
_SMALLEST = 1e-5


class SmoothQuant:
    """Y = (X diag(s)^-1) (diag(s) W), eq. 3, with s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), eq. 4."""

    needs = Needs.STATISTICS

    def transform(self, layer: Layer, request: Request) -> Transform:
        """The scales of the default alpha; those of another, the option `smooth`, are applied before any method."""
        return Transform() if request.options.smooth else Transform(smoothing(layer, DEFAULT_ALPHA))

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Round to nearest."""
        return ROUND_TO_NEAREST.solve(layer, request)


def smoothing(layer: Layer, alpha: float) -> Tensor:
    """Eq. 4, (columns,); a channel that was never active keeps its scale."""
    activation, weight = layer.known.largest, layer.weight.abs().amax(0)
    scale = activation.clamp(min=_SMALLEST) ** alpha / weight.clamp(min=_SMALLEST) ** (1 - alpha)
    scale[(activation < _SMALLEST) | (weight < _SMALLEST)] = 1
    return scale.clamp(min=_SMALLEST)


METHOD = SmoothQuant()
