"""TesseraQ: every weight learns whether to be rounded up or down, and the surest are fixed first.

Source: Li & Panda 2024, "TesseraQ: Ultra Low-Bit LLM Post-Training Quantization with Block Reconstruction",
arXiv 2410.19103. The authors' schedule of shares that stay soft, their stretched sigmoid (of AdaRound, Nagel
et al. 2020, arXiv 2004.10568, eq. 23) and their start from a searched clipping are kept. Instead of
20 stages of 250 steps on random samples there are as many steps as epochs times batches, in the order of the
batches and at a higher rate; the optimiser keeps its moments from stage to stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backends.ptq._block import Solved, Trial, Weights, stored
from backends.ptq._codes import IntegerGrid, clipped_grid, integers
from backends.ptq._linear import Solution
from backends.ptq._method import Block, Layer, Needs, Request
from backends.ptq._options import PtqOptions
from backends.ptq._quantize import before, transformed

_SOFT = (80, 65, 50, 43, 38, 34, 30, 27, 24, 21, 18, 15, 12, 10, 8, 6, 4, 2, 1, 0.5)
"""Percent of a layer's weights whose rounding is still open, by stage, from the authors' configurations."""
_SCALE_DECAY = 1e-4
"""Weight decay of the tuned scales, as in the paper."""
_STRETCH = 0.1
"""By which the sigmoid reaches beyond 0 and 1, so that it can arrive at either."""


class TesseraQ:
    """argmin over roundings and scales of ||F(W, X) - F(W', X')||^2, block after block."""

    needs = Needs.BLOCK

    @torch.no_grad()
    def solve_block(self, block: Block, request: Request) -> Solved:
        """The hardened rounding, or the nearest one on the searched grid where that is better; deterministic."""
        trial = Trial(block, request)
        learned = {name: _Learned(layer, request) for name, layer in block.layers.items()}
        nearest = {name: layer.start for name, layer in learned.items()}
        _harden_and_learn(trial, learned, request.options)
        hardened = {name: (layer.transform, layer.solution()) for name, layer in learned.items()}
        return min((nearest, hardened), key=trial.loss)


def _harden_and_learn(trial: Trial, learned: Mapping[str, _Learned], options: PtqOptions) -> None:
    """An epoch after every hardening; the stages are spread evenly over the epochs, ending with the last."""
    groups: list[dict[str, Any]] = [
        {"params": [layer.openness for layer in learned.values()]},
        {"params": [layer.tuning for layer in learned.values()], "weight_decay": _SCALE_DECAY},
    ]
    optimizer = torch.optim.Adam(groups, lr=options.learning_rate)

    def weights() -> Weights:
        return {name: (layer.transform, layer.softly_rounded()) for name, layer in learned.items()}

    for epoch in range(1, options.epochs + 1):
        stage = -(-epoch * len(_SOFT) // options.epochs) - 1
        for layer in learned.values():
            layer.harden(_SOFT[stage] / 100)
        trial.descend(optimizer, weights)


class _Learned:
    """What is learned of one layer: nu, here `openness`, for every weight and v, `tuning`, for every scale.

    A weight is s 2 sigmoid(v) (clamp(floor(w / s + z) + alpha, 0, 2^b - 1) - z) with alpha = sigmoid(nu) in (0, 1),
    and nu starts where alpha rounds nothing at all.
    """

    def __init__(self, layer: Layer, request: Request) -> None:
        self.transform = before(layer, request)
        layer = transformed(layer, self.transform)
        self._grid = integers(clipped_grid(layer.weight, request.code, layer.known.second.diagonal()))
        self.start = self.transform, Solution(self._grid.codes(layer.weight), self._grid)
        scale, middle = self._grid.expanded(layer.weight.shape)
        exact = layer.weight / scale + middle
        self._floor = exact.floor()
        self.openness = ((exact - self._floor + _STRETCH) / (1 + 2 * _STRETCH)).logit().requires_grad_()
        self.tuning = torch.zeros_like(self._grid.scale, dtype=torch.float32).requires_grad_()
        self._is_hard = torch.zeros_like(exact, dtype=torch.bool)
        self._is_up = torch.zeros_like(self._is_hard)

    def harden(self, soft: float) -> None:
        """Fix the roundings with the highest score |alpha - 1/2|, until only a share of `soft` is open."""
        score = torch.where(self._is_hard, torch.inf, (self._alpha() - 0.5).abs())
        remaining = max(1, int(soft * score.numel()))
        surest = (score > score.flatten().kthvalue(remaining).values) & ~self._is_hard
        self._is_up |= surest & (self.openness > 0)
        self._is_hard |= surest

    def softly_rounded(self) -> Tensor:
        """The transformed weight, with gradients."""
        return self._tuned_grid().values(self._codes(self._alpha()))

    def solution(self) -> Solution:
        """The weight with every open rounding decided."""
        own = self._tuned_grid()
        final = IntegerGrid(own.bits, own.scale.to(torch.float16), own.zero)
        return Solution(self._codes((self.openness > 0).float()), final)

    def _alpha(self) -> Tensor:
        return (self.openness.sigmoid() * (1 + 2 * _STRETCH) - _STRETCH).clamp(0, 1)

    def _codes(self, alpha: Tensor) -> Tensor:
        """Codes with `alpha` in the place of what is not hardened, (rows, columns)."""
        up = torch.where(self._is_hard, self._is_up.float(), alpha)
        return (self._floor + up).clamp(0, 2**self._grid.bits - 1)

    def _tuned_grid(self) -> IntegerGrid:
        """The grid with scales times 2 sigmoid(v), in float32 with gradients; the zero points stay."""
        scale = stored(self._grid.scale.float() * 2 * self.tuning.sigmoid())
        return IntegerGrid(self._grid.bits, scale, self._grid.zero)


METHOD = TesseraQ()
