"""Speech-model quantization libraries behind one `quantize`.

>>> import torch
>>> from backends import quantize
>>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
>>> quantized = quantize(model, "weight_only", "per_channel", 8, backend="reference")
>>> tuple(quantized.model(torch.zeros(2, 64)).shape)
(2, 8)
"""

from backends._base import (
    Calibration,
    CalibrationInput,
    Capability,
    Form,
    Generator,
    Quantized,
    Supported,
    Unsupported,
)
from backends._errors import AsrQuantError, CheckpointError, ModelError, SpecError, UnsupportedError
from backends._quantize import calibrates, capability, load, quantize, quantize_spec, resolve, row_independent, versions
from backends._registry import available
from backends._report import LayerReport, QuantReport
from backends._spec import (
    ENCODER_AND_DECODER,
    FULL_PRECISION,
    LINEAR,
    Activations,
    Granularity,
    ModuleKind,
    NumberFormat,
    Part,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    Scheme,
    parse_granularity,
)

__all__ = [
    "ENCODER_AND_DECODER",
    "FULL_PRECISION",
    "LINEAR",
    "Activations",
    "AsrQuantError",
    "Calibration",
    "CalibrationInput",
    "Capability",
    "CheckpointError",
    "Form",
    "Generator",
    "Granularity",
    "LayerReport",
    "ModelError",
    "ModuleKind",
    "NumberFormat",
    "Part",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "QuantReport",
    "QuantSpec",
    "Quantized",
    "Scheme",
    "SpecError",
    "Supported",
    "Unsupported",
    "UnsupportedError",
    "available",
    "calibrates",
    "capability",
    "load",
    "parse_granularity",
    "quantize",
    "quantize_spec",
    "resolve",
    "row_independent",
    "versions",
]
