"""Rounding activations in every call: the arithmetic that simulated schemes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.core.codes import Activations

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 1e-12


def range_of(inputs: Tensor, code: Activations) -> tuple[Tensor, Tensor]:
    """Minimum and maximum that a code's scale must span: of every token (row of the last dimension), or of all."""
    if code.granularity == "per_token":
        return inputs.amin(-1, keepdim=True), inputs.amax(-1, keepdim=True)
    return inputs.amin(), inputs.amax()


def round_activations(inputs: Tensor, code: Activations, low: Tensor, high: Tensor) -> Tensor:
    """`inputs` at the nearest values of an integer code that spans [low, high] and 0; same shape and dtype."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    if code.symmetric:
        largest = 2 ** (code.bits - 1) - 1
        scale = (-low).maximum(high).clamp(min=_SMALLEST) / largest
        return (inputs / scale).round().clamp(-largest - 1, largest) * scale
    steps = 2**code.bits - 1
    scale = (high - low).clamp(min=_SMALLEST) / steps
    zero_point = (-low / scale).round()
    return ((inputs / scale + zero_point).round().clamp(0, steps) - zero_point) * scale


def widened(seen: Tensor | None, inputs: Tensor) -> Tensor:
    """Smallest and largest value seen so far, (2,)."""
    import torch

    found = torch.stack([inputs.amin(), inputs.amax()])
    return found if seen is None else torch.stack([seen[0].minimum(found[0]), seen[1].maximum(found[1])])
