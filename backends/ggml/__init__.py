"""ggml: Whisper as a whole in whisper.cpp, the engine of phones and small devices.

All linear layers and the tie of head and embedding have one of ggml's types; the convolutions have 16 bits, all else
32. Products round their inputs to 8 bits, with a scale for every 32 values of a token (256 in the K types), so that the
scheme is dynamic. An importance matrix, from calibration, is the method `imatrix`. What comes is a `Generator`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, Capability, Form, NoOptions, Supported, Unsupported
from backends.core.checkpoint import Quantized
from backends.core.codes import PerTensor
from backends.core.errors import ModelError, UnsupportedError
from backends.core.report import LayerReport, QuantReport, size_bytes
from backends.core.selection import Candidate, candidates_for
from backends.core.spec import ENCODER_AND_DECODER, LINEAR, ModuleKind, QuantSpec, Scheme
from backends.ggml._types import IMATRIX, QUANTIZED, TensorType, granularity_of, symmetric_of, type_of

if TYPE_CHECKING:
    from torch import nn

    from backends.ggml._modules import GgmlWhisper

_MATRICES = LINEAR | {ModuleKind.TIED}
_STORED = _MATRICES | {ModuleKind.CONV}
_LARGEST = 65504
"""Of float16."""


class Ggml:
    """Whisper as a whole."""

    name = "ggml"
    packages = ("pywhispercpp", "torch")
    options = NoOptions
    kinds = _MATRICES
    groups_activations = True
    no_recipe = "whisper.cpp reads all matrices of a file in one type"

    def __init__(self) -> None:
        self.exports = {"ggml": _export}

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Codes as their type has them, inputs as its products round them; floats are one cast of everything."""
        if spec.scheme is Scheme.NONE:
            return replace(spec, method=spec.method or "cast", modules=_STORED, parts=ENCODER_AND_DECODER)
        symmetric = symmetric_of(spec) if spec.symmetric is None else spec.symmetric
        asked = replace(spec, symmetric=symmetric)
        kind = type_of(asked)
        if kind is None or spec.scheme is not Scheme.DYNAMIC:
            return asked
        return replace(asked, activations=spec.activations or kind.activations, method=spec.method or kind.method)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """The types of ggml that are in use for Whisper, dynamic; fp16."""
        if device != "cpu":
            return Unsupported("this adapter runs ggml on the CPU")
        reason = _refused(spec)
        if reason is not None:
            return Unsupported(reason)
        from backends.ggml._library import library

        try:
            library()
        except UnsupportedError as error:
            return Unsupported(str(error), elsewhere=True)
        kind = type_of(spec)
        return Supported(form=Form.GENERATOR, note=kind.name if kind in QUANTIZED else _FLOAT_NOTE)

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """For an importance matrix."""
        return spec.method == IMATRIX

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Always: utterances are transcribed one after the other."""
        return True

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """A Whisper in float32 whose head is tied, and whose rows the type divides."""
        from backends.ggml._modules import check

        check(model)
        modules = _stored_modules(model, spec)
        offenders = [c.name for c in modules if str(c.weight.dtype) != "torch.float32"]
        if offenders:
            raise ModelError(f"ggml takes weights in float32; load the model so, for {', '.join(offenders)}")
        _check_rows(modules, _type(spec))
        wide = [c.name for c in modules if float(c.weight.abs().max()) > _LARGEST]
        if wide:
            raise ModelError(
                f"ggml's scales and floats of 16 bits end at {_LARGEST}, and beyond it go {', '.join(wide)}"
            )

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Write the whole model as a file of whisper.cpp, and load it."""
        import torch

        from backends.ggml._importance import importance
        from backends.ggml._modules import WEIGHTS, convert

        self.check(model, spec, options)
        model.eval()
        kind, modules, before = _type(spec), _stored_modules(model, spec), size_bytes(model)
        with torch.no_grad():
            matrices = [c for c in modules if c.kind in _MATRICES]
            weights = importance(model, matrices, calibration) if self.calibrates(spec, options) else {}
            generator, stored = convert(model, kind, modules, weights)
            layers = tuple(_report(c, stored[c.name], kind, spec) for c in modules)
        size = (generator.directory / WEIGHTS).stat().st_size
        notes = ("bytes are those of whisper.cpp's file, with vocabulary and mel filters", _FLOAT_NOTE)
        return Quantized(generator, QuantReport(layers, size, before, notes), self.name, spec, options)

    def write(self, model: GgmlWhisper, directory: Path) -> None:
        """whisper.cpp's own file."""
        model.write(directory)

    def restore(self, directory: Path, skeleton: nn.Module, spec: QuantSpec, options: Any) -> GgmlWhisper:
        """The engine on the saved file."""
        from backends.ggml._modules import GgmlWhisper

        return GgmlWhisper(directory, skeleton.config, skeleton.generation_config)


_FLOAT_NOTE = (
    "whisper.cpp keeps keys, values and what goes through the convolutions in 16 bits; its GELU is the tanh form"
)


def _export(quantized: Quantized, path: Path, processor: Any) -> None:
    model: Any = quantized.model
    model.export(path)


def _type(spec: QuantSpec) -> TensorType:
    """Of a spec that is not refused."""
    kind = type_of(spec)
    assert kind is not None, "capability refuses what has no type"
    return kind


def _stored_modules(model: nn.Module, spec: QuantSpec) -> list[Candidate]:
    """Linear layers, convolutions and the tie, which whisper.cpp holds as one tensor in any case."""
    return candidates_for(model, replace(spec, modules=_STORED))


def _refused(spec: QuantSpec) -> str | None:
    """Why whisper.cpp would do something else, `None` where it does just this."""
    kind = type_of(spec)
    if spec.scheme is Scheme.NONE:
        if kind is None:
            return "whisper.cpp has floats of 16 bits, fp16: its convolutions take no others"
        plain = spec.granularity == PerTensor() and spec.method == "cast"
        return None if plain else "floats have no scales: use per_tensor, and leave the method out"
    if spec.scheme is not Scheme.DYNAMIC:
        return "ggml's products round their inputs in every call: use the scheme dynamic"
    if kind is None:
        return f"ggml has int of 8 bits, symmetric, int of 5 and 4, and {', '.join(_NAMED)}"
    if spec.granularity != granularity_of(kind):
        return f"ggml's {kind.name} has a scale for every {kind.group} weights: use per_group:{kind.group}"
    if spec.activations != kind.activations:
        return f"ggml rounds the inputs of {kind.name} to {kind.activations}: leave activations out"
    if spec.method not in (kind.method, IMATRIX):
        return f"ggml chooses the codes of {kind.name} by the method {kind.method}, or by imatrix"
    if spec.method == IMATRIX and not kind.weighted:
        return f"ggml's {kind.name} takes no importance matrix: leave the method out"
    if spec.modules != _MATRICES or spec.parts != ENCODER_AND_DECODER:
        kinds = ", ".join(f'"{one}"' for one in sorted(_MATRICES))
        return f"whisper.cpp has all matrices in one type: say so with modules = [{kinds}] and both parts"
    return None


_NAMED = [str(kind.format) for kind in QUANTIZED if kind.format != "int"]


def _check_rows(modules: list[Candidate], kind: TensorType) -> None:
    """Raise `ModelError` naming matrices with rows that the blocks of `kind` do not divide."""
    widths = {c.name: c.weight.shape[1] for c in modules if c.kind in _MATRICES and c.weight.shape[1] % kind.row}
    if not widths:
        return
    name, width = next(iter(widths.items()))
    near = [one for one in QUANTIZED if one.row < kind.row and not any(other % one.row for other in widths.values())]
    mend = f": use {', '.join(map(_spelled, _nearest(near, kind)))}" if near else ""
    raise ModelError(
        f"{kind.name} has blocks of {kind.row} weights in a row, and {len(widths)} matrices have other rows, such as "
        f"{name} with {width}{mend}"
    )


def _nearest(types: list[TensorType], kind: TensorType) -> list[TensorType]:
    """Those whose width is nearest to that of `kind`."""
    least = min(abs(one.bits - kind.bits) for one in types)
    return [one for one in types if abs(one.bits - kind.bits) == least]


def _spelled(kind: TensorType) -> str:
    if kind.format != "int":
        return f"{kind.format} with per_group:{kind.group}"
    return f"{kind.name} (int of {kind.bits} bits, per_group:{kind.group}, symmetric = {str(kind.symmetric).lower()})"


def _report(candidate: Candidate, stored: bytes, kind: TensorType, spec: QuantSpec) -> LayerReport:
    """What the file has of a module."""
    import torch

    from backends.ggml._file import stored_type
    from backends.ggml._library import dequantized

    weight = candidate.weight
    own = stored_type(candidate, kind)
    found = torch.from_numpy(dequantized(own, stored, (len(weight), weight[0].numel()))).reshape(weight.shape)
    asked = spec.weight_code if candidate.kind in spec.modules else None
    reason = "" if asked is not None else "not requested: whisper.cpp has convolutions in 16 bits"
    return LayerReport(
        candidate.name,
        candidate.kind,
        tuple(weight.shape),
        asked,
        asked,
        reason,
        len(stored) * 8,
        float((found - weight).norm() / weight.norm()),
        lookup=candidate.lookup,
    )


BACKEND = Ggml()
