"""The modules of the reference quantizer."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from backends.core.activations import range_of, round_activations, widened
from backends.core.spec import QuantSpec, Scheme


class FakeQuantized(nn.Module):
    """A linear layer, embedding or convolution with a rounded weight and, if asked, rounded input and output.

    Args:
        module: the float module; not changed.
        weight: takes the place of its weight.
        spec: how input and output are rounded, an embedding's never. In the static scheme their ranges are those
            observed while `observing`, not those of each call.
    """

    def __init__(self, module: nn.Module, weight: Tensor, spec: QuantSpec) -> None:
        super().__init__()
        self.module = copy.copy(module)
        self.module._parameters = {**module._parameters, "weight": nn.Parameter(weight, requires_grad=False)}
        self.code = None if isinstance(module, nn.Embedding) else spec.activations
        self.codes_outputs = spec.outputs
        self.observing = spec.scheme is Scheme.STATIC
        self.input_range: Tensor | None = None
        self.output_range: Tensor | None = None

    @property
    def weight(self) -> Any:
        """The rounded weight, for code that looks at it."""
        return self.module.weight

    @property
    def stride(self) -> Any:
        """Of a convolution: Whisper's encoder reads it."""
        return self.module.stride

    def forward(self, inputs: Tensor) -> Tensor:
        """The float module between rounded inputs and outputs; shapes and dtypes are the float module's."""
        if self.code is None:
            return self.module(inputs)
        if self.observing:
            return self._observed(inputs)
        seen = range_of(inputs, self.code) if self.input_range is None else self.input_range.unbind()
        outputs: Tensor = self.module(round_activations(inputs, self.code, *seen))
        if self.output_range is not None:
            outputs = round_activations(outputs, self.code, *self.output_range.unbind())
        return outputs

    def _observed(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.module(inputs)
        self.input_range = widened(self.input_range, inputs)
        if self.codes_outputs:
            self.output_range = widened(self.output_range, outputs)
        return outputs
