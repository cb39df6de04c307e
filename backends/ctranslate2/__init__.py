"""CTranslate2: Whisper in an engine of its own, the one that users take for speed.

It converts a model as a whole: every linear layer, the head, the embedding and the convolutions. Integer linear
layers round their inputs in every call, each token by its own scale at 8 bits and all at once at 16; it has no
weight-only arithmetic. Its 16-bit codes reach 1024 only. The quantized model is a `Generator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, Capability, Form, NoOptions, Supported, Unsupported
from backends.core.checkpoint import Quantized
from backends.core.codes import (
    Activations,
    Granularity,
    NumberFormat,
    PerChannel,
    PerTensor,
)
from backends.core.errors import ModelError
from backends.core.report import QuantReport, size_bytes
from backends.core.spec import (
    ENCODER_AND_DECODER,
    EVERYTHING,
    FULL_PRECISION,
    ModuleKind,
    QuantSpec,
    Scheme,
)

if TYPE_CHECKING:
    from torch import nn

    from backends.ctranslate2._modules import CTranslate2Whisper

_TYPES = {
    (Scheme.NONE, NumberFormat.FP32, 32): "float32",
    (Scheme.NONE, NumberFormat.FP16, 16): "float16",
    (Scheme.NONE, NumberFormat.BF16, 16): "bfloat16",
    (Scheme.DYNAMIC, NumberFormat.INT, 8): "int8",
    (Scheme.DYNAMIC, NumberFormat.INT, 16): "int16",
}
"""The library's compute types."""
_INTEGERS: Mapping[str, tuple[Granularity, Activations]] = {
    "int8": (PerChannel(), Activations(8, NumberFormat.INT, "per_token", True)),
    "int16": (PerTensor(), Activations(16, NumberFormat.INT, "per_tensor", True)),
}
"""Granularity of the weights, and how activations are coded."""


class CTranslate2:
    """Whisper as a whole."""

    name = "ctranslate2"
    packages = ("ctranslate2", "torch")
    options = NoOptions

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric codes, activations as the library has them; a float is one cast of everything, as for `cast`."""
        if spec.scheme is Scheme.NONE:
            if spec.format is NumberFormat.FP32:
                return FULL_PRECISION
            return replace(spec, method=spec.method or "cast", modules=EVERYTHING, parts=ENCODER_AND_DECODER)
        symmetric = True if spec.symmetric is None else spec.symmetric
        usual = _INTEGERS.get(_type(spec))
        activations = usual[1] if usual and spec.activations is None else spec.activations
        return replace(spec, symmetric=symmetric, activations=activations, method=spec.method or "rtn")

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Dynamic int8 per channel, dynamic int16 per tensor, and floats, where the library has kernels for them."""
        if device != "cpu":
            return Unsupported("this adapter runs CTranslate2 on the CPU")
        wanted = _type(spec)
        if not wanted:
            return Unsupported(
                "CTranslate2 has the scheme dynamic with int of 8 or 16 bits, and the scheme none with fp32, fp16 "
                "and bf16; weights alone it does not quantize"
            )
        reason = _refused(spec, wanted)
        if reason is not None:
            return Unsupported(reason)
        from backends.ctranslate2._library import ctranslate2, saturates

        if wanted == "int8" and saturates():
            return Unsupported(
                "CTranslate2's sums of 8-bit products saturate on this processor, which has no VNNI instructions: set "
                "CT2_USE_MKL=1 in the environment before Python starts",
                elsewhere=True,
            )
        there = ctranslate2.get_supported_compute_types("cpu")
        if wanted not in there:
            reason = f"CTranslate2 has no {wanted} on this machine, only {', '.join(sorted(there))}"
            return Unsupported(reason, elsewhere=True)
        return Supported(form=Form.GENERATOR, note=_NOTES.get(wanted, ""))

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """Never."""
        return False

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Unless all activations of a call share a scale."""
        return spec.activations is None or spec.activations.granularity == "per_token"

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """A Whisper in float32, whose prompt ends with the token of no timestamps."""
        from backends.core.selection import candidates
        from backends.ctranslate2._modules import check

        check(model)
        offenders = [c.name for c in candidates(model) if str(c.weight.dtype) != "torch.float32"]
        if offenders:
            raise ModelError(f"ctranslate2 takes weights in float32; load the model so, for {', '.join(offenders)}")

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Convert the whole model, which is consumed."""
        import torch

        from backends.core.selection import candidates
        from backends.ctranslate2._files import layer_reports
        from backends.ctranslate2._modules import WEIGHTS, convert

        self.check(model, spec, options)
        before = size_bytes(model)
        originals = [(candidate, candidate.weight.clone()) for candidate in candidates(model)]
        with torch.no_grad():
            generator = convert(model, _type(spec))
        asked = None if _type(spec) == "float32" else spec.weight_code
        layers, size = layer_reports(generator.directory / WEIGHTS, originals, asked, spec.activations)
        notes = (f"CTranslate2 computes in {generator.compute_type}", "bytes are those of its file")
        return Quantized(generator, QuantReport(layers, size, before, notes), self.name, spec, options)

    def write(self, model: CTranslate2Whisper, directory: Path) -> None:
        """The library's own files."""
        model.write(directory)

    def restore(self, directory: Path, skeleton: nn.Module, spec: QuantSpec, options: Any) -> CTranslate2Whisper:
        """The engine on the saved files."""
        from backends.ctranslate2._modules import CTranslate2Whisper

        return CTranslate2Whisper(directory, skeleton.config, skeleton.generation_config, _type(spec))


_NOTES = {
    "int8": "convolutions and embedding are rounded, but computed in float",
    "int16": "a result depends on what else is in the batch: activation scales are per call; codes reach 1024 only",
}


def _type(spec: QuantSpec) -> str:
    """The library's compute type for a spec; empty where it has none."""
    return _TYPES.get((spec.scheme, spec.format, spec.bits or 0), "")


def _refused(spec: QuantSpec, wanted: str) -> str | None:
    """Why the library would do something else, `None` where it does just this."""
    if wanted not in _INTEGERS:
        plain = spec.granularity == PerTensor() and spec.method in ("none", "cast")
        return None if plain else "floats have no scales: use per_tensor, and leave the method out"
    granularity, activations = _INTEGERS[wanted]
    if spec.granularity != granularity or spec.method != "rtn":
        return f"CTranslate2's {wanted} weights are {granularity}, method rtn"
    if not spec.symmetric or spec.activations != activations:
        return f"CTranslate2's {wanted} weights are symmetric, its activations {activations}: leave both out"
    if spec.modules != EVERYTHING or spec.parts != ENCODER_AND_DECODER:
        kinds = ", ".join(f'"{kind}"' for kind in ModuleKind if kind in EVERYTHING)
        return f"CTranslate2 quantizes the whole model: say so with modules = [{kinds}] and both parts"
    return None


BACKEND = CTranslate2()
