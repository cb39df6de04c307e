"""The modules of torch.ao's static quantization."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from backends._torch_ao._modules import (
    DeQuantStub,
    HistogramObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    QConfig,
    QuantStub,
    convert,
    dynamic,
    quantized,
)
from backends.core.errors import UnsupportedError
from backends.core.observing import counted
from backends.core.packed import engine as kernels


class StubbedModule(nn.Module):
    """A linear layer or convolution that quantizes its input and dequantizes its output itself.

    Args:
        module: the float module; `torch.ao.quantization.convert` replaces it by its quantized counterpart.
        engine: the kernel library for which it will be packed.
    """

    codes_outputs = True

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

    def freeze(self) -> None:
        """Turn what was observed into scales, and pack the weight."""
        convert(self, inplace=True)

    @staticmethod
    def float_exit() -> nn.Module:
        """What `DeQuantStub` is converted to."""
        return quantized.DeQuantize()


class FloatOutputs(nn.Module):
    """A linear layer that quantizes its input itself, and whose output is never rounded.

    Args:
        module: the float layer, or torch.ao's dynamic one, which holds a packed weight and no output scale.
        engine: the kernel library for which it is packed.
        quant: what observes the input's range, or, beside a packed weight, has its scale and zero point.
    """

    codes_outputs = False

    def __init__(self, module: nn.Module, engine: str, quant: nn.Module) -> None:
        super().__init__()
        self.quant: Any = quant
        self.module: Any = module
        self.engine = engine

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shapes as the float layer, float in and out. Before `freeze` padding is kept from the observer."""
        if isinstance(self.module, nn.Linear):
            self.quant(counted(inputs))
            return self.module(inputs)
        scale, zero_point = float(self.quant.scale), int(self.quant.zero_point)
        packed = self.module._packed_params._packed_params
        outputs: Tensor = _WITH_FLOAT_OUTPUT(inputs, scale, zero_point, packed)
        return outputs

    def freeze(self) -> None:
        """Turn what was observed into a scale, and pack the weight."""
        self.quant = quantized_stub(*self.quant.calculate_qparams())
        self.module = dynamic.Linear.from_float(self.module)  # type: ignore[no-untyped-call]


_WITH_FLOAT_OUTPUT = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32


def configuration(observer: str, reduce_range: bool, per_channel: bool) -> QConfig:
    """torch.ao's configuration: affine unsigned activations, symmetric signed weights."""
    activation = HistogramObserver if observer == "histogram" else MinMaxObserver
    weight = PerChannelMinMaxObserver if per_channel else MinMaxObserver
    qscheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
    return QConfig(
        activation=activation.with_args(quant_min=0, quant_max=127 if reduce_range else 255),
        weight=weight.with_args(dtype=torch.qint8, qscheme=qscheme),
    )


def refuse_saturating_products(reduce_range: bool, engine: str) -> None:
    """Raise `UnsupportedError` where this processor's sums of products of 8-bit codes are wrong."""
    if not reduce_range and not products_are_exact(engine):
        raise UnsupportedError(
            "torch.ao: sums of 8-bit products saturate on this processor, which has no VNNI instructions: set the "
            'option reduce_range = true for inputs of 7 bits, or engine = "qnnpack" where outputs are rounded'
        )


@cache
def products_are_exact(engine: str) -> bool:
    """Whether a kernel library adds up the largest products, of unsigned and signed codes, as integers should."""
    weight = torch._make_per_tensor_quantized_tensor(torch.full((32, 64), 127, dtype=torch.int8), 1.0, 0)
    with kernels(engine):
        layer = quantized.Linear(64, 32, bias_=False)  # type: ignore[no-untyped-call]
        layer.set_weight_bias(weight, None)
    exact = 64 * 127 * 255
    layer.scale, layer.zero_point = exact / 250, 0
    inputs = torch._make_per_tensor_quantized_tensor(torch.full((4, 64), 255, dtype=torch.uint8), 1.0, 0)
    return bool((layer(inputs).int_repr() == 250).all())


def quantized_counterpart(module: nn.Module, outputs: bool) -> Any:
    """An empty torch.ao module of the shape of a float linear layer or convolution; a layer may lack `outputs`."""
    if isinstance(module, nn.Linear):
        kind: Any = quantized.Linear if outputs else dynamic.Linear
        return kind(module.in_features, module.out_features, module.bias is not None)
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
