"""ONNX Runtime: Whisper and Moonshine as two ONNX graphs, the form in which most of the field deploys them.

Weights in groups are multiplied by as they are (`MatMulNBits`): rounded by the library, or by any method of the
backend `ptq`, whose codes go in bit for bit. Weights per tensor or channel are multiplied by inputs of 8 bits, whose
ranges are found in every call or fixed by calibration. Attention stays float. The quantized model is a `Generator`.
"""

from __future__ import annotations

import copy
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, Capability, Form, Supported, Unsupported
from backends.core.checkpoint import Quantized
from backends.core.codes import Activations, NumberFormat, PerGroup
from backends.core.errors import ModelError, UnsupportedError
from backends.core.integers import Coded
from backends.core.registry import get
from backends.core.report import QuantReport, size_bytes
from backends.core.selection import candidates_for, chosen, group_divides
from backends.core.spec import FULL_PRECISION, ModuleKind, QuantSpec, Scheme, completed
from backends.onnxruntime._rules import LIBRARY, blocks_refused, note_of, refused

if TYPE_CHECKING:
    from torch import nn

    from backends.core.integers import IntegerWeight
    from backends.onnxruntime._generator import OnnxRecognizer
    from backends.onnxruntime._modules import Graphs

_METHODS = get("ptq")
"""Whose methods and options this backend has beside the library's own rounding."""


class OnnxRuntime:
    """Linear layers, the head and the tie."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx", "onnxscript", "onnx-ir", "torch")
    options = _METHODS.options
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})
    codes_outputs = True

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """In groups symmetric at 8 bits, as for `ptq`; else affine, as are inputs. Static outputs are coded too."""
        if spec.scheme is Scheme.NONE and spec.format is NumberFormat.FP32:
            return FULL_PRECISION
        if isinstance(spec.granularity, PerGroup):
            activations = Activations(8, NumberFormat.INT, "per_token", True)
            symmetric = spec.bits == 8
        else:
            activations = Activations(8, NumberFormat.INT, "per_tensor", False)
            symmetric = spec.bits == 7
        rounds = spec.scheme in (Scheme.DYNAMIC, Scheme.STATIC)
        outputs = spec.scheme is Scheme.STATIC if spec.outputs is None else spec.outputs
        filled = completed(spec, symmetric=symmetric, activations=activations if rounds else None, method=LIBRARY)
        return replace(filled, outputs=outputs)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Groups of 4 and 8 bits by any method; int8 per tensor or channel, dynamic and static; full precision."""
        if device != "cpu":
            return Unsupported("this adapter runs ONNX Runtime on the CPU")
        in_groups = isinstance(spec.granularity, PerGroup)
        reason = refused(spec, options != self.options())
        if reason is not None:
            return Unsupported(reason)
        if spec.scheme is not Scheme.NONE and spec.method != LIBRARY:
            answer = _METHODS.capability(_of_weights(spec), options, device)
            if isinstance(answer, Unsupported):
                return answer
        if spec.activations is not None and spec.bits == 8 and spec.symmetric and not in_groups:
            from backends.onnxruntime._processor import products_are_exact

            if not products_are_exact():
                reason = (
                    "products of symmetric 8-bit codes saturate in silence on this processor, which has no VNNI "
                    "instructions: use symmetric = false, or bits = 7"
                )
                return Unsupported(reason, elsewhere=True)
        return Supported(form=Form.GENERATOR, note=note_of(spec))

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """For static ranges, and where the method does."""
        if spec.scheme is Scheme.NONE or spec.method == LIBRARY:
            return spec.scheme is Scheme.STATIC
        return _METHODS.calibrates(_of_weights(spec), options)

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Unless all activations of a call share a scale that is found in it."""
        return spec.scheme is not Scheme.DYNAMIC or isinstance(spec.granularity, PerGroup)

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """A Whisper or Moonshine in float32, whose rows the group size divides."""
        from backends.onnxruntime._modules import check

        check(model)
        everything = candidates_for(model, spec)
        offenders = [c.name for c in everything if str(c.weight.dtype) != "torch.float32"]
        if offenders:
            raise ModelError(f"onnxruntime takes weights in float32; load the model so, for {', '.join(offenders)}")
        if spec.scheme is not Scheme.NONE:
            group_divides([target.candidate for target in chosen(model, spec)], spec)
            if spec.method != LIBRARY:
                _METHODS.check(model, _of_weights(spec), options)

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Export the model, which is consumed, and put the codes in."""
        import torch

        from backends.onnxruntime._library import rounded, with_integers
        from backends.onnxruntime._modules import exported, is_tied
        from backends.onnxruntime._weights import bytes_of, layer_report, tie

        self.check(model, spec, options)
        if spec.scheme is not Scheme.NONE and spec.method != LIBRARY:
            assert isinstance(_METHODS, Coded), "ptq hands out its codes"
            done = _METHODS.quantize(model, _of_weights(spec), options, calibration)
            return self._adopted(done.model, done, spec, _METHODS)
        model.eval()
        before, everything = size_bytes(model), candidates_for(model, spec)
        targets = [] if spec.scheme is Scheme.NONE else [target.candidate for target in chosen(model, spec)]
        names = [candidate.name for candidate in targets]
        in_groups = isinstance(spec.granularity, PerGroup)
        coded = {c.name: rounded(c.weight, spec) for c in targets} if in_groups else {}
        apart = any(candidate.kind is ModuleKind.HEAD for candidate in targets)
        with torch.no_grad():
            graphs = exported(model, coded, tied=is_tied(model) and not apart)
            if coded:
                _put(graphs, coded, spec)
            elif names:
                graphs = with_integers(graphs, names, spec, calibration)
            if any(candidate.lookup for candidate in targets):
                tie(graphs.decoder)
        layers = tuple(layer_report(graphs, c, spec.weight_code if c.name in names else None) for c in everything)
        report = QuantReport(layers, sum(map(bytes_of, graphs)), before, _notes(spec))
        return Quantized(_recognizer(graphs, model), report, self.name, spec, options)

    def adopt(self, quantized: Quantized) -> Quantized:
        """A model of `ptq` in this engine, with the same codes; `quantized` stays as it is.

        Raises:
            UnsupportedError: there is more to it than codes, scales and zero points that the engine multiplies by.
        """
        from backends.onnxruntime._modules import check

        source = get(quantized.backend)
        if not isinstance(source, Coded):
            raise UnsupportedError(f"codes of the backend {source.name} are not exported: quantize with ptq")
        if quantized.spec.scheme is not Scheme.WEIGHT_ONLY:
            raise UnsupportedError(f"only weights are exported, and the scheme is {quantized.spec.scheme}")
        check(quantized.model)
        return self._adopted(copy.deepcopy(quantized.model), quantized, quantized.spec, source)

    def _adopted(self, model: Any, quantized: Quantized, spec: QuantSpec, source: Coded) -> Quantized:
        import torch

        from backends.core.rest import rest_dtype
        from backends.onnxruntime._modules import exported, is_tied
        from backends.onnxruntime._weights import bytes_of, stored_bits, tie

        if rest_dtype(model) is not None:
            raise UnsupportedError(f"the graphs are in float32, and rest is {spec.rest}: leave rest out")
        others = {str(tensor.dtype)[6:] for tensor in model.parameters() if tensor.is_floating_point()} - {"float32"}
        if others:
            raise UnsupportedError(f"the graphs are in float32, and the model in {', '.join(others)}: load it so")
        layers = [layer for layer in quantized.report.layers if layer.effective is not None]
        for layer in layers:
            if reason := blocks_refused(layer.effective):
                raise UnsupportedError(f"{layer.name}: {reason}")
        coded = {layer.name: source.integers(model.get_submodule(layer.name), layer.name) for layer in layers}
        with torch.no_grad():
            graphs = exported(model, coded, tied=is_tied(model))
            _put(graphs, coded, spec)
            if any(layer.lookup for layer in layers):
                tie(graphs.decoder)
        own = tuple(replace(layer, stored_bits=stored_bits(graphs, layer)) for layer in quantized.report.layers)
        notes = (*quantized.report.notes, *_notes(spec))
        report = QuantReport(own, sum(map(bytes_of, graphs)), quantized.report.full_precision_bytes, notes)
        return Quantized(_recognizer(graphs, model), report, self.name, spec, quantized.options)

    def write(self, model: OnnxRecognizer, directory: Path) -> None:
        """Both graphs with their weights."""
        model.write(directory)

    def restore(self, directory: Path, skeleton: nn.Module, spec: QuantSpec, options: Any) -> OnnxRecognizer:
        """The engine on the saved graphs."""
        return _opened(directory, skeleton)


def _of_weights(spec: QuantSpec) -> QuantSpec:
    """What is asked of the adapter of methods: the weights alone."""
    return replace(spec, scheme=Scheme.WEIGHT_ONLY, activations=None)


def _put(graphs: Graphs, coded: Mapping[str, IntegerWeight], spec: QuantSpec) -> None:
    from backends.onnxruntime._weights import products, put_codes

    for model in graphs:
        for name in products(model):
            if name in coded:
                put_codes(model, name, coded[name], 0 if spec.scheme is Scheme.WEIGHT_ONLY else 4)


def _notes(spec: QuantSpec) -> tuple[str, ...]:
    """What the report says about the whole model."""
    padding = "ranges are found on whole windows, padding included, and on tokens without it"
    where = "ONNX Runtime computes encoder and decoder; bytes are those of its files"
    return (where, padding) if spec.scheme is Scheme.STATIC else (where,)


def _recognizer(graphs: Graphs, model: Any) -> OnnxRecognizer:
    """The engine on graphs in a temporary directory, which goes away with what is returned."""
    from backends.onnxruntime._weights import save

    directory = Path(mkdtemp(prefix="asrquant-onnxruntime-"))
    try:
        save(graphs.encoder, directory, "encoder")
        save(graphs.decoder, directory, "decoder")
        opened = _opened(directory, model)
    except BaseException:
        shutil.rmtree(directory)
        raise
    weakref.finalize(opened, shutil.rmtree, directory, ignore_errors=True)
    return opened


def _opened(directory: Path, model: Any) -> OnnxRecognizer:
    from backends.onnxruntime._generator import OnnxRecognizer

    return OnnxRecognizer(directory, model.config, model.generation_config, type(model).__name__)


BACKEND = OnnxRuntime()
