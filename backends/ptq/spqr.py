"""SpQR: the few weights that harm their group the most are kept apart, and scales are small numbers themselves.

Source: Dettmers et al. 2023, "SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight
Compression", arXiv 2306.03078, algorithm 1. Outliers are found before the first column is rounded, so that
columns can be taken in the order of their inputs' power, as in `gptq`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from backends.core.codes import WeightCode
from backends.ptq._codes import IntegerGrid, grid, grouped, integers
from backends.ptq._linear import Outliers, Solution, Transform
from backends.ptq._method import Layer, Needs, Request
from backends.ptq.gptq import Sweep, column_order, inverse_factor, round_columns
from backends.ptq.rtn import layer_grid

MOST = 0.01
"""Share of the weights that may be outliers, as many as in the paper; an outlier takes 48 bits."""
PLAIN_SCALES = 16
"""`scale_bits` for scales that are stored as they are."""


class Spqr:
    """GPTQ around outliers on a grid of small scales; never worse than GPTQ on that grid."""

    needs = Needs.STATISTICS

    def transform(self, layer: Layer, request: Request) -> Transform:
        """None."""
        return Transform()

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Algorithm 1, its outliers given up where the calibration inputs show no gain."""
        second, options = layer.known.second, request.options
        order = column_order(second, options)
        factor = inverse_factor(second[order][:, order], options.damping)
        found = outliers(layer.weight, factor.diagonal()[order.argsort()], request)
        own = _grid(layer, found, request)
        plain = Solution(round_columns(layer, own, options), own)
        sweep = Sweep(layer.weight[:, order].clone(), order, factor, apart=found[:, order].float())
        spared = Solution(sweep.run(own, options.block_size), own, _sparse(sweep.apart, order))
        return min(spared, plain, key=lambda solution: layer.known.loss(solution.weight - layer.weight))


def _grid(layer: Layer, found: Tensor, request: Request) -> IntegerGrid:
    """The grid of all weights but the outliers: zero is in every range anyway."""
    own = integers(layer_grid(replace(layer, weight=layer.weight.masked_fill(found, 0)), request))
    bits = request.options.scale_bits
    return own if bits == PLAIN_SCALES else own.with_second_level(bits)


def _sparse(apart: Tensor | None, order: Tensor) -> Outliers | None:
    assert apart is not None, "the sweep was given a matrix"
    flat = apart[:, order.argsort()].reshape(-1)
    index = flat.nonzero()[:, 0]
    return Outliers(index.int(), flat[index].half()) if len(index) else None


def outliers(weight: Tensor, sensitivity: Tensor, request: Request) -> Tensor:
    """Which weights are kept apart, (rows, columns) of bool.

    Those without which their group's error sum_j (w_j - q(w_j))^2 / u_j^2 falls by more than `outlier_threshold`
    times the mean of var(w_j) / u_j^2 over columns (the authors' code, which makes the paper's threshold relative
    to the layer), but no more than `MOST` of them.

    Args:
        weight: (rows, columns).
        sensitivity: u_j = U_jj with U^T U the inverse Hessian, (columns,).
        request: with code and threshold.
    """
    gain = reduction(weight, sensitivity, request.code)
    threshold = request.options.outlier_threshold * (weight.var(0) / sensitivity**2).mean()
    most = gain.reshape(-1).kthvalue(math.ceil((1 - MOST) * gain.numel())).values
    return gain > torch.maximum(threshold, most)


def reduction(weight: Tensor, sensitivity: Tensor, code: WeightCode) -> Tensor:
    """By how much a group's error falls without each of its weights, (rows, columns): leave one out.

    The range of a group is that of its smallest and largest weight: without any other weight all stay at their
    codes, and the error falls by the weight's own. Only for these two the group is rounded anew.
    """
    own = _errors(weight, weight, sensitivity, code)
    gain = own.clone()
    for extreme in (torch.argmin, torch.argmax):
        index = extreme(grouped(weight, code), 2, keepdim=True)
        there = torch.zeros_like(grouped(weight, code), dtype=torch.bool).scatter_(2, index, True).reshape(weight.shape)
        without = _errors(weight, weight.masked_fill(there, 0), sensitivity, code).masked_fill(there, 0)
        fallen = (grouped(own, code) - grouped(without, code)).sum(2, keepdim=True)
        gain = torch.where(there, fallen.expand_as(grouped(own, code)).reshape(weight.shape), gain)
    return gain


def _errors(weight: Tensor, of_range: Tensor, sensitivity: Tensor, code: WeightCode) -> Tensor:
    """Weighted squared rounding errors of `weight` on the grid of another matrix."""
    return (grid(of_range, code).rounded(weight) - weight) ** 2 / sensitivity**2


METHOD = Spqr()
