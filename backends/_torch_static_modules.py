"""The modules of torch.ao's static quantization."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from backends._observing import counted
from backends._torch_ao_modules import (
    DeQuantStub,
    HistogramObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    QConfig,
    QuantStub,
    quantized,
)


class StubbedModule(nn.Module):
    """A linear layer or convolution that quantizes its input and dequantizes its output itself.

    Args:
        module: the float module; `torch.ao.quantization.convert` replaces it by its quantized twin.
        engine: the kernel library for which it will be packed.
    """

    def __init__(self, module: nn.Module, engine: str) -> None:
        super().__init__()
        self.quant: nn.Module = QuantStub()
        self.module = module
        self.dequant: nn.Module = DeQuantStub()
        self.engine = engine

    @property
    def stride(self) -> Any:
        """Of a convolution: Whisper's encoder reads it."""
        return self.module.stride

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shapes as the float module, float in and out. Before conversion padding is kept from the observers."""
        if isinstance(self.module, nn.Linear):
            some = counted(inputs)
            if some is not inputs:
                self.module(self.quant(some))
                return nn.functional.linear(inputs, self.module.weight, self.module.bias)
        outputs: Tensor = self.dequant(self.module(self.quant(inputs)))
        return outputs

    @staticmethod
    def float_exit() -> nn.Module:
        """What `DeQuantStub` is converted to."""
        return quantized.DeQuantize()


def configuration(observer: str, reduce_range: bool, per_channel: bool) -> QConfig:
    """torch.ao's configuration: affine unsigned activations, symmetric signed weights."""
    activation = HistogramObserver if observer == "histogram" else MinMaxObserver
    weight = PerChannelMinMaxObserver if per_channel else MinMaxObserver
    qscheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
    return QConfig(
        activation=activation.with_args(quant_min=0, quant_max=127 if reduce_range else 255),
        weight=weight.with_args(dtype=torch.qint8, qscheme=qscheme),
    )


def quantized_twin(module: nn.Module) -> Any:
    """An empty torch.ao module of the shape of a float linear layer or convolution."""
    if isinstance(module, nn.Linear):
        return quantized.Linear(module.in_features, module.out_features, module.bias is not None)
    assert isinstance(module, nn.Conv1d)
    return quantized.Conv1d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        module.dilation,  # type: ignore[arg-type]
        module.groups,
        module.bias is not None,
    )


def quantized_stub(scale: Tensor, zero_point: Tensor) -> nn.Module:
    """What `QuantStub` is converted to."""
    stub = quantized.Quantize(1.0, 0, torch.quint8)
    stub.scale, stub.zero_point = scale, zero_point
    return stub
