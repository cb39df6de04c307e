"""OmniQuant: clipping ranges, and scales of the input's channels, learned on the output of the block.

Source: Shao et al. 2023, "OmniQuant: Omnidirectionally Calibrated Quantization for Large Language Models",
arXiv 2308.13137. What differs here:

- The ranges start from a search (`clipped_grid`), not from nearly the whole range: a few utterances make few
  steps, and the way from one to the other would take most of them.
- The equivalent transformation is a scale alone. The paper's shift of the input would go into the bias of the
  layer before; here every layer transforms its own input, and only by a division.
- Scales are learned where activations are quantized, as for the paper's LLaMA models, and start from those of
  SmoothQuant or from 1, whichever is better for the block. With a rotation only ranges are learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from backends.core.codes import WeightCode
from backends.ptq._block import Solved, Trial, Weights, stored, straight_through
from backends.ptq._codes import IntegerGrid, clipped_grid, grouped, integer_grid, integers
from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Block, Layer, Needs, Request
from backends.ptq._options import PtqOptions
from backends.ptq._quantize import before, joined, transformed
from backends.ptq.smoothquant import smoothing

_ALPHA = 0.5
"""Of the smoothing that scales start from, as in the paper."""
_LARGEST_SHARE = 0.982
"""Of a range that learning starts from, sigmoid(4) as in the authors' code: at 1 there would be no gradient."""


class OmniQuant:
    """argmin over ranges and scales of ||F(W, X) - F(Q(W), Q(X))||^2, eq. 1, block after block."""

    needs = Needs.BLOCK

    @torch.no_grad()
    def solve_block(self, block: Block, request: Request) -> Solved:
        """The best of the start and the states after every epoch; deterministic.

        The start is rounding to nearest on a searched range. An epoch is one step of AdamW for every batch,
        at a learning rate that falls linearly to zero.
        """
        trial = Trial(block, request)
        starts = [_learned(block, request, alpha) for alpha in (0.0, _ALPHA)[: 1 if request.activations is None else 2]]
        learned = min(starts, key=lambda start: trial.loss(_begun(start)))
        return min(_states(trial, learned, request.options), key=trial.loss)


def _states(trial: Trial, learned: Mapping[str, _Learned], options: PtqOptions) -> Iterator[Solved]:
    """The start, then what is learned by the end of every epoch."""
    yield _begun(learned)
    parameters = [parameter for layer in learned.values() for parameter in layer.parameters]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / options.epochs)

    def weights() -> Weights:
        return {name: (layer.transform, layer.rounded()) for name, layer in learned.items()}

    for _ in range(options.epochs):
        trial.descend(optimizer, weights)
        falling.step()
        yield {name: (layer.transform, layer.solution()) for name, layer in learned.items()}


def _learned(block: Block, request: Request, alpha: float) -> dict[str, _Learned]:
    return {name: _Learned(layer, request, alpha) for name, layer in block.layers.items()}


def _begun(learned: Mapping[str, _Learned]) -> Solved:
    return {name: layer.start for name, layer in learned.items()}


class _Learned:
    """What is learned of one layer.

    Args:
        layer: untransformed.
        request: of the layer.
        alpha: of the smoothing that its scales start from; 0 for scales of 1.
    """

    def __init__(self, layer: Layer, request: Request, alpha: float) -> None:
        self._before = before(layer, request)
        layer = transformed(layer, self._before)
        self._weight, self._code = layer.weight, request.code
        self._log_scale: Tensor | None = None
        if request.activations is not None and not self._before.rotated:
            scale = smoothing(layer, alpha) if alpha else torch.ones_like(layer.known.largest)
            self._log_scale = scale.log().requires_grad_()
        layer = transformed(layer, self._own)
        searched = integers(clipped_grid(layer.weight, self._code, layer.known.second.diagonal()))
        self.start = self.transform, Solution(searched.codes(layer.weight), searched)
        share = searched.scale.float() / integer_grid(layer.weight, self._code).scale.float()
        self._upper = share.clamp(max=_LARGEST_SHARE).logit().requires_grad_()
        self._lower = self._upper.detach().clone().requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        """What has a gradient."""
        return [self._upper, self._lower, *([] if self._log_scale is None else [self._log_scale])]

    @property
    def _own(self) -> Transform:
        return Transform(None if self._log_scale is None else self._log_scale.exp())

    @property
    def transform(self) -> Transform:
        """The options' transform and the learned one."""
        return joined(self._before, self._own)

    def rounded(self) -> Tensor:
        """The transformed weight at its nearest values, with gradients."""
        weight = self._own.of_weight(self._weight)
        own = learned_grid(weight, self._code, self._lower.sigmoid(), self._upper.sigmoid())
        scale, middle = own.expanded(weight.shape)
        exact = weight / scale + middle
        return own.values(straight_through(exact.round(), exact).clamp(0, 2**own.bits - 1))

    def solution(self) -> Solution:
        """The same as codes."""
        weight = self._own.of_weight(self._weight)
        own = learned_grid(weight, self._code, self._lower.sigmoid(), self._upper.sigmoid())
        final = IntegerGrid(own.bits, own.scale.to(torch.float16), own.zero)
        return Solution(final.codes(weight), final)


def learned_grid(weight: Tensor, code: WeightCode, beta: Tensor, gamma: Tensor) -> IntegerGrid:
    """The grid of a range that is clipped to shares of minimum and maximum, with gradients; scales in float32.

    s = (gamma max - beta min) / (2^b - 1) and z = -round(beta min / s), eq. 2; where symmetric,
    s = max(gamma max, -beta min) / (2^(b-1) - 1).

    Args:
        weight: (rows, columns).
        code: bits, granularity and symmetry.
        beta: share of the minimum, (rows, groups).
        gamma: share of the maximum, (rows, groups).
    """
    groups = grouped(weight, code)
    low, high = beta * groups.amin(2).clamp(max=0), gamma * groups.amax(2).clamp(min=0)
    if code.symmetric:
        return IntegerGrid(code.bits, stored(torch.maximum(-low, high) / max(2 ** (code.bits - 1) - 1, 1)), None)
    steps = 2**code.bits - 1
    scale = stored((high - low) / steps)
    zero = -low / scale
    return IntegerGrid(code.bits, scale, straight_through(zero.round(), zero).clamp(0, steps))


METHOD = OmniQuant()
