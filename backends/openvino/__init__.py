"""OpenVINO: the encoder of Whisper in Intel's engine, quantized by nncf; the decoder stays in torch.

A whole recogniser cannot be converted, so `parts` is the encoder. Weights are coded alone, or together with
inputs whose ranges calibration fixes. The quantized model is a transformers model with the engine as its encoder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, Capability, Form, NoOptions, Supported, Unsupported
from backends.core.checkpoint import Quantized
from backends.core.codes import (
    Activations,
    NumberFormat,
    PerChannel,
    PerTensor,
)
from backends.core.errors import ModelError
from backends.core.report import QuantReport, size_bytes
from backends.core.selection import candidates, group_divides, unrequested
from backends.core.spec import (
    FULL_PRECISION,
    ModuleKind,
    Part,
    QuantSpec,
    Scheme,
    completed,
)

if TYPE_CHECKING:
    from torch import nn

_ENCODER = frozenset({Part.ENCODER})
_KINDS = frozenset({ModuleKind.LINEAR, ModuleKind.CONV})


class OpenVino:
    """Whisper's encoder."""

    name = "openvino"
    packages = ("openvino", "nncf", "torch")
    options = NoOptions

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """8-bit codes are symmetric, 4-bit ones affine; static activations affine. `none` is full precision."""
        if spec.scheme is Scheme.NONE and spec.format is NumberFormat.FP32:
            return FULL_PRECISION
        activations = Activations(symmetric=False) if spec.scheme is Scheme.STATIC else None
        return completed(spec, symmetric=spec.bits == 8, activations=activations)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Weights of 8 bits per channel and of 4 per channel or group; static int8; the float encoder."""
        if device != "cpu":
            return Unsupported("this adapter runs OpenVINO on the CPU")
        reason = _refused(spec)
        if reason is not None:
            return Unsupported(reason)
        return Supported(form=Form.MODULE, note="the encoder runs in OpenVINO, the decoder in torch")

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """For static ranges."""
        return spec.scheme is Scheme.STATIC

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Always: there are no ranges that are found in a call."""
        return True

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """A Whisper in float32, whose rows the group size divides."""
        from backends.openvino._modules import check

        check(model)
        encoder = [c for c in candidates(model) if c.part is Part.ENCODER]
        offenders = [c.name for c in encoder if str(c.weight.dtype) != "torch.float32"]
        if offenders:
            raise ModelError(f"openvino takes weights in float32; load the model so, for {', '.join(offenders)}")
        group_divides([c for c in encoder if c.kind in spec.modules], spec)

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Convert the encoder, quantize the graph, and put it in the encoder's place."""
        import torch

        from backends.openvino._graph import bytes_of, calibrated, compress, layer_reports
        from backends.openvino._modules import put, traced

        self.check(model, spec, options)
        model.eval()
        before, everything = size_bytes(model), candidates(model)
        originals = [(c, c.weight.clone()) for c in everything if c.part is Part.ENCODER]
        with torch.no_grad():
            graph = traced(model)
            if spec.scheme is Scheme.WEIGHT_ONLY:
                graph = compress(graph, spec)
            elif spec.scheme is Scheme.STATIC:
                graph = calibrated(graph, spec, calibration)
            put(model, graph)
            inside = layer_reports(graph, originals, spec)
            layers = tuple(inside.get(c.name) or unrequested(c, spec) for c in everything)
        size = size_bytes(model) + bytes_of(graph)
        return Quantized(model, QuantReport(layers, size, before, _notes(spec)), self.name, spec, options)

    def write(self, model: Any, directory: Path) -> None:
        """The engine's graph."""
        model.get_encoder().write(directory)

    def restore(self, directory: Path, skeleton: nn.Module, spec: QuantSpec, options: Any) -> nn.Module:
        """The skeleton with the saved graph as its encoder."""
        from backends.openvino._modules import put, read

        put(skeleton, read(directory))
        return skeleton


def _refused(spec: QuantSpec) -> str | None:
    """Why it cannot be done, `None` where it can."""
    if spec.scheme is Scheme.NONE:
        plain = spec == FULL_PRECISION
        return None if plain else "floats are fp32 here: use the backend cast for fp16 and bf16"
    if spec.scheme is Scheme.DYNAMIC:
        return "OpenVINO scales activations in groups within a token, which has no name here: it is switched off"
    if spec.parts != _ENCODER:
        return 'OpenVINO cannot convert the decoder: say so with parts = ["encoder"]'
    if not spec.modules <= _KINDS:
        return "the encoder has neither head nor embedding: use modules linear and conv"
    if spec.format is not NumberFormat.INT or spec.method != "rtn":
        return "this adapter has integer codes, method rtn"
    return _refused_static(spec) if spec.scheme is Scheme.STATIC else _refused_weights(spec)


def _refused_static(spec: QuantSpec) -> str | None:
    if spec.bits != 8 or spec.granularity != PerChannel() or not spec.symmetric:
        return "static weights are symmetric, 8 bits, per_channel"
    affine = Activations(8, NumberFormat.INT, "per_tensor", False)
    if spec.activations not in (affine, replace(affine, symmetric=True)):
        return "static activations are 8 bits, per_tensor"
    return None


def _refused_weights(spec: QuantSpec) -> str | None:
    if spec.bits == 8:
        return None if spec.granularity == PerChannel() else "8-bit weights are per_channel"
    if spec.bits != 4:
        return "weights have 8 or 4 bits"
    if isinstance(spec.granularity, PerTensor):
        return "4-bit weights are per_channel or per_group"
    if ModuleKind.CONV in spec.modules:
        return "nncf gives convolutions 8 bits where 4 are asked: leave conv out"
    return None


def _notes(spec: QuantSpec) -> tuple[str, ...]:
    """What the report says about the whole model."""
    where = ("the encoder is computed by OpenVINO in float32, the decoder by torch",)
    padding = ("ranges are found on windows as they are, padding included",)
    return where + padding if spec.scheme is Scheme.STATIC else where


BACKEND = OpenVino()
