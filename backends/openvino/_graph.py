"""Quantizing an OpenVINO graph with nncf, and reading from it what every layer then holds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, CalibrationInput
from backends.core.codes import (
    Granularity,
    NumberFormat,
    PerChannel,
    PerGroup,
    WeightCode,
)
from backends.core.errors import ModelError
from backends.core.report import LayerReport
from backends.core.selection import Candidate
from backends.core.spec import ModuleKind, QuantSpec, Scheme

if TYPE_CHECKING:
    import openvino
    from torch import Tensor

_OPERATIONS = {ModuleKind.LINEAR: "MatMul", ModuleKind.CONV: "Convolution"}
_ATTENTION = "ScaledDotProductAttention"
_CODES = {"i8": (8, True), "u8": (8, False), "i4": (4, True), "u4": (4, False)}
"""Element types: bits, and whether the code is symmetric."""


def compress(graph: openvino.Model, spec: QuantSpec) -> openvino.Model:
    """The graph with the weights of the chosen kinds of modules coded as `spec` says, activations float."""
    from backends.openvino._modules import quiet

    with quiet() as nncf:
        mode = f"INT{spec.bits}_{'SYM' if spec.symmetric else 'ASYM'}"
        settings: dict[str, Any] = {}
        if spec.bits == 4:
            size = spec.granularity.group_size if isinstance(spec.granularity, PerGroup) else -1
            settings = {"group_size": size, "ratio": 1.0, "all_layers": True}
        scope = nncf.IgnoredScope(types=_left_out(spec), validate=False)
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode[mode], ignored_scope=scope, **settings)


def calibrated(graph: openvino.Model, spec: QuantSpec, calibration: Calibration | None) -> openvino.Model:
    """The graph with weights and inputs of the chosen kinds of modules in 8 bits, ranges found on `calibration`.

    SmoothQuant and bias correction, which nncf would add, are left out, and so is its fix for processors without VNNI,
    which codes the weights of the first layer in 7 bits.

    Raises:
        ModelError: there is no calibration input.
    """
    from backends.openvino._modules import quiet

    windows = [window for batch in calibration or () for window in _features(batch)]
    if not windows:
        raise ModelError("the static scheme needs calibration inputs: pass calibration=[...] to quantize")
    assert spec.activations is not None, "resolve fills it in"
    with quiet() as nncf:
        preset = nncf.QuantizationPreset.PERFORMANCE if spec.activations.symmetric else nncf.QuantizationPreset.MIXED
        return nncf.quantize(
            graph,
            nncf.Dataset(windows),
            preset=preset,
            subset_size=len(windows),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(types=[*_left_out(spec), _ATTENTION], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=True,
                overflow_fix=nncf.OverflowFix.DISABLE,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1),
            ),
        )


def _left_out(spec: QuantSpec) -> list[str]:
    return [operation for kind, operation in _OPERATIONS.items() if kind not in spec.modules]


def _features(batch: CalibrationInput | Mapping[str, Tensor] | Tensor) -> Sequence[Any]:
    """The windows of one batch, each (1, mels, frames)."""
    inputs = batch.inputs if isinstance(batch, CalibrationInput) else batch
    features = inputs["input_features"] if isinstance(inputs, Mapping) else inputs
    return [window[None].float().cpu().numpy() for window in features]


def bytes_of(graph: openvino.Model) -> int:
    """Of all constants."""
    return sum(_bits(operation) for operation in graph.get_ops() if operation.get_type_name() == "Constant") // 8


def layer_reports(
    graph: openvino.Model, originals: Sequence[tuple[Candidate, Tensor]], spec: QuantSpec
) -> dict[str, LayerReport]:
    """What the graph holds of every module of the encoder, by the module's name.

    Args:
        graph: quantized.
        originals: candidates of the encoder with copies of their float weights.
        spec: what was asked for.

    Raises:
        ModelError: a module has another code than was asked for.
    """
    operations = _by_module(graph)
    weights = _computed(graph, list(operations))
    reports = {}
    for candidate, original in originals:
        module = candidate.name.removeprefix("model.encoder.")
        asked = spec.weight_code if candidate.kind in spec.modules and spec.scheme is not Scheme.NONE else None
        constants = _constants(operations[module].input(1).get_source_output().get_node())
        found = _code(constants, original)
        if found != asked:
            raise ModelError(f"{candidate.name}: OpenVINO coded it as {found}, not as {asked}")
        error = (weights[module].reshape(original.shape) - original).norm() / original.norm()
        bits = sum(map(_bits, constants))
        reason = "" if found else "not requested"
        shape = tuple(original.shape)
        reports[candidate.name] = LayerReport(
            candidate.name, candidate.kind, shape, asked, found, reason, bits, float(error)
        )
    return reports


def _by_module(graph: openvino.Model) -> dict[str, Any]:
    """The operation that multiplies by a module's weight, by the module's name within the encoder."""
    found = {}
    for operation in graph.get_ordered_ops():
        if operation.get_type_name() in _OPERATIONS.values():
            named = re.fullmatch(r"__module\.encoder\.(.+?)/aten::.+", operation.get_friendly_name())
            if named is not None:
                found[named[1]] = operation
    return found


def _computed(graph: openvino.Model, modules: Sequence[str]) -> dict[str, Tensor]:
    """The float weights that the graph multiplies by, computed from codes and scales by the engine itself."""
    import openvino
    import torch

    operations = _by_module(graph.clone())
    outputs = [operations[module].input(1).get_source_output() for module in modules]
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Model(outputs, []), "CPU", settings)
    values = compiled({})
    return {module: torch.from_numpy(values[place].copy()).float() for place, module in enumerate(modules)}


def _constants(node: Any) -> list[Any]:
    """Codes, scales and zero points that a weight is computed from; shapes of reshapes left out."""
    if node.get_type_name() == "Constant":
        return [node] if node.get_element_type().get_type_name() != "i64" else []
    inputs = [node.input(i).get_source_output().get_node() for i in range(node.get_input_size())]
    return [constant for above in inputs for constant in _constants(above)]


def _bits(constant: Any) -> int:
    bits: int = math.prod(constant.get_output_shape(0)) * constant.get_element_type().bitwidth
    return bits


def _code(constants: Sequence[Any], original: Tensor) -> WeightCode | None:
    """The code of a weight, `None` where it is a float."""
    codes = max(constants, key=lambda constant: math.prod(constant.get_output_shape(0)))
    name = codes.get_element_type().get_type_name()
    if name not in _CODES:
        return None
    bits, symmetric = _CODES[name]
    scales = [c for c in constants if c.get_element_type().get_type_name() in ("f16", "f32")]
    return WeightCode(bits, NumberFormat.INT, _granularity(scales[0], original), symmetric)


def _granularity(scale: Any, original: Tensor) -> Granularity:
    """By how many scales there are."""
    count = math.prod(scale.get_output_shape(0))
    return PerChannel() if count == len(original) else PerGroup(original.numel() // count)
