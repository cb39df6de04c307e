"""Rows without quantization: the model as it is, and plain casts to a narrower float."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, Capability, NoOptions, Supported, Unsupported
from backends.core.checkpoint import Quantized
from backends.core.codes import NumberFormat, PerTensor, WeightCode
from backends.core.report import LayerReport, QuantReport, size_bytes
from backends.core.selection import candidates
from backends.core.spec import (
    ENCODER_AND_DECODER,
    EVERYTHING,
    FULL_PRECISION,
    ModuleKind,
    QuantSpec,
    Scheme,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_DTYPES = {NumberFormat.FP16: "float16", NumberFormat.BF16: "bfloat16"}


class FloatBackend:
    """Shared by `none` and `cast`: every parameter stays a float."""

    packages = ("torch",)
    options = NoOptions

    def __init__(self, name: str, formats: frozenset[NumberFormat]) -> None:
        self.name = name
        self._formats = formats

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """One cast of the whole model, whatever modules were named; `none` is always full precision."""
        if self.name == "none" and spec.scheme is Scheme.NONE and spec.format is NumberFormat.FP32:
            return FULL_PRECISION
        method = spec.method or self.name
        return replace(spec, method=method, modules=EVERYTHING, parts=ENCODER_AND_DECODER)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """`none` does nothing; `cast` does fp16 and bf16, per tensor and without scales."""
        if spec.scheme is not Scheme.NONE or spec.granularity != PerTensor() or spec.method != self.name:
            return Unsupported(f"{self.name} does not quantize: use scheme none, granularity per_tensor")
        if spec.format not in self._formats:
            return Unsupported(f"{self.name} has the formats {', '.join(sorted(self._formats))}")
        return Supported()

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """Never."""
        return False

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Always."""
        return True

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """Any model will do."""

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Cast parameters and persistent buffers of `model` in place, as loading it in that dtype would."""
        import torch

        model.eval()
        before = size_bytes(model)
        originals = {c.name: c.weight for c in candidates(model)}
        if spec.format in _DTYPES:
            _cast(model, getattr(torch, _DTYPES[spec.format]))
        layers = tuple(
            _report(c.name, c.kind, originals[c.name], c.weight, spec.weight_code) for c in candidates(model)
        )
        return Quantized(model, QuantReport(layers, size_bytes(model), before), self.name, spec, options)

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's own parameters."""
        return {name: parameter.detach() for name, parameter in module.named_parameters(recurse=False)}

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The module itself, with the saved parameters in it."""
        from torch import nn

        for name, tensor in tensors.items():
            setattr(module, name, nn.Parameter(tensor, requires_grad=False))
        return module


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Buffers that are not saved, such as rotary frequencies, stay as they are computed."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point() and name not in module._non_persistent_buffers_set:
                module._buffers[name] = buffer.to(dtype)


def _report(name: str, kind: ModuleKind, before: Tensor, after: Tensor, code: WeightCode | None) -> LayerReport:
    cast = after.dtype != before.dtype
    error = float((after.float() - before.float()).norm() / before.float().norm()) if cast else 0.0
    bits = after.numel() * after.element_size() * 8
    reason = "" if cast else "full precision"
    effective = code if cast else None
    return LayerReport(name, kind, tuple(before.shape), effective, effective, reason, bits, error)
