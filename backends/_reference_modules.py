"""The modules of the reference quantizer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from backends._spec import Activations


class FakeQuantized(nn.Module):
    """A linear layer, embedding or convolution with a rounded weight and, if asked, a rounded input.

    Args:
        module: the float module; not changed.
        weight: takes the place of its weight.
        activations: how the input is rounded, or `None`.
        static: the input's range is what was observed while `observing`, not that of each call.
    """

    def __init__(self, module: nn.Module, weight: Tensor, activations: Activations | None, static: bool) -> None:
        super().__init__()
        self.module = copy.copy(module)
        self.module._parameters = {**module._parameters, "weight": nn.Parameter(weight, requires_grad=False)}
        self.activations = activations
        self.static = static
        self.observing = static
        self.observed: Tensor | None = None

    @property
    def weight(self) -> Any:
        """The rounded weight, for code that looks at it."""
        return self.module.weight

    @property
    def stride(self) -> Any:
        """Of a convolution: Whisper's encoder reads it."""
        return self.module.stride

    def forward(self, inputs: Tensor) -> Tensor:
        """The float module on rounded inputs; shapes and dtypes are the float module's."""
        if self.observing:
            self._observe(inputs)
        elif self.activations is not None:
            inputs = self._round(inputs, self.activations)
        outputs: Tensor = self.module(inputs)
        return outputs

    def _observe(self, inputs: Tensor) -> None:
        seen = torch.stack([inputs.amin(), inputs.amax()])
        if self.observed is not None:
            seen = torch.stack([torch.minimum(seen[0], self.observed[0]), torch.maximum(seen[1], self.observed[1])])
        self.observed = seen

    def _round(self, inputs: Tensor, code: Activations) -> Tensor:
        low, high = self._range(inputs, code)
        low, high = low.clamp(max=0), high.clamp(min=0)
        if code.symmetric:
            largest = 2 ** (code.bits - 1) - 1
            scale = torch.maximum(-low, high).clamp(min=1e-12) / largest
            return (inputs / scale).round().clamp(-largest - 1, largest) * scale
        steps = 2**code.bits - 1
        scale = (high - low).clamp(min=1e-12) / steps
        zero_point = (-low / scale).round()
        return ((inputs / scale + zero_point).round().clamp(0, steps) - zero_point) * scale

    def _range(self, inputs: Tensor, code: Activations) -> tuple[Tensor, Tensor]:
        if self.static and self.observed is not None:
            return self.observed[0], self.observed[1]
        if code.granularity == "per_token":
            return inputs.amin(-1, keepdim=True), inputs.amax(-1, keepdim=True)
        return inputs.amin(), inputs.amax()
