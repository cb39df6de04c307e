"""Every name of torch.ao that the adapters torch_dynamic and torch_static use; reached through `_torch_ao`."""

from torch.ao.nn import quantized
from torch.ao.nn.quantized import dynamic
from torch.ao.quantization import (
    DeQuantStub,
    HistogramObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    QConfig,
    QuantStub,
    convert,
    default_dynamic_qconfig,
    float16_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    per_channel_dynamic_qconfig,
    prepare,
)

__all__ = [
    "DeQuantStub",
    "HistogramObserver",
    "MinMaxObserver",
    "PerChannelMinMaxObserver",
    "QConfig",
    "QuantStub",
    "convert",
    "default_dynamic_qconfig",
    "dynamic",
    "float16_dynamic_qconfig",
    "float_qparams_weight_only_qconfig",
    "per_channel_dynamic_qconfig",
    "prepare",
    "quantized",
]
