"""Round to nearest, on the range of minimum and maximum or, with the option `clip`, on a searched one.

Searching costs nothing but time and uses the power of the inputs where calibration tells it; a study
of other methods that has no clipped rounding beside them proves little.
"""

from __future__ import annotations

from backends.ptq._codes import Grid, clipped_grid, grid
from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Layer, Needs, Request


class RoundToNearest:
    """q = clamp(round(w / s) + z) (Jacob et al. 2018, arXiv 1712.05877, eq. 1)."""

    needs = Needs.NOTHING

    def transform(self, layer: Layer, request: Request) -> Transform:
        """None."""
        return Transform()

    def solve(self, layer: Layer, request: Request) -> Solution:
        """The nearest codes on the layer's grid."""
        own = layer_grid(layer, request)
        return Solution(own.codes(layer.weight), own)


def layer_grid(layer: Layer, request: Request) -> Grid:
    """The grid that the request asks for: by minimum and maximum, or by search."""
    if not request.options.clip:
        return grid(layer.weight, request.code)
    importance = None if layer.statistics is None else layer.statistics.second.diagonal()
    return clipped_grid(layer.weight, request.code, importance)


METHOD = RoundToNearest()
