"""QuaRot: a Hadamard rotation spreads the outliers of a layer's input over all channels.

Source: Ashkboos et al. 2024, "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", arXiv 2404.00456:
(X H) (H^T W) = X W for orthonormal H (section 3). The paper fuses what it can into neighbouring weights;
here every layer rotates its own input online, which is exact for any layer, normalisation and width.
"""

from __future__ import annotations

from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Layer, Needs, Request
from backends.ptq.rtn import METHOD as ROUND_TO_NEAREST


class QuaRot:
    """Rotate, then round to nearest; for other rounding take another method with the option `rotate`."""

    needs = Needs.NOTHING

    def transform(self, layer: Layer, request: Request) -> Transform:
        """The rotation."""
        return Transform(rotated=True)

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Round to nearest."""
        return ROUND_TO_NEAREST.solve(layer, request)


METHOD = QuaRot()
