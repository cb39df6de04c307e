"""The modules of the reference quantizer."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from backends._activations import range_of, round_activations, widened
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
            self.observed = widened(self.observed, inputs)
        elif self.activations is not None:
            inputs = round_activations(inputs, self.activations, *self._range(inputs, self.activations))
        outputs: Tensor = self.module(inputs)
        return outputs

    def _range(self, inputs: Tensor, code: Activations) -> tuple[Tensor, Tensor]:
        if self.static and self.observed is not None:
            return self.observed[0], self.observed[1]
        return range_of(inputs, code)
