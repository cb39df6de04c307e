"""Weights in the graphs: codes put in the place of floats, saving, and what is held of every layer, read back.

A float weight is called as in the model and lies as `MatMul` takes it, (inputs, outputs). Codes that are put in have
rows as outputs, and the engine's `MatMulNBits` multiplies by them; scales of 16 bits are widened when it loads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from backends.core.codes import NumberFormat, PerChannel, PerGroup, PerTensor, WeightCode
from backends.core.errors import ModelError
from backends.core.integers import IntegerWeight
from backends.core.report import LayerReport
from backends.core.selection import Candidate
from backends.core.spec import ModuleKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAD = "proj_out"
_ENGINE = "com.microsoft"
_INLINE = 256
"""Tensors of fewer bytes, such as shapes, stay in the graph: the engine wants them before it reads others."""


def products(model: ModelProto) -> list[str]:
    """Names of the linear layers in a graph."""
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and f"{node.name}.weight" in node.input]


def put_codes(model: ModelProto, name: str, weight: IntegerWeight, level: int) -> None:
    """Let a linear layer multiply by codes, in place.

    Args:
        model: a graph that has the layer.
        name: of the layer.
        weight: its codes, of 4 or 8 bits.
        level: the engine's `accuracy_level`: 0 multiplies in float32, 4 rounds inputs to 8 bits.
    """
    graph, key = model.graph, f"{name}.weight"
    (node,) = [node for node in graph.node if node.name == name]
    rows, columns = weight.codes.shape
    groups, bits = weight.scale.shape[1], weight.code.bits
    inputs = [node.input[0], f"{key}.codes", f"{key}.scale"]
    _add(model, f"{key}.codes", packed(weight.codes.numpy(), bits).reshape(rows, groups, -1))
    _add(model, f"{key}.scale", weight.scale.numpy())
    if weight.zero is not None:
        inputs.append(f"{key}.zero")
        _add(model, f"{key}.zero", packed(weight.zero.numpy(), bits))
    if weight.scale.itemsize == 2:
        inputs[2] = f"{key}.scale.wide"
        graph.node.insert(0, helper.make_node("Cast", [f"{key}.scale"], [inputs[2]], to=TensorProto.FLOAT))
    sizes = {"K": columns, "N": rows, "bits": bits, "block_size": columns // groups, "accuracy_level": level}
    coded = helper.make_node("MatMulNBits", inputs, node.output, name, domain=_ENGINE, **sizes)
    _replace(model, node, [coded])
    if _ENGINE not in [used.domain for used in model.opset_import]:
        model.opset_import.append(helper.make_opsetid(_ENGINE, 1))


def packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Rows of codes in bytes, two of 4 bits in one, the first in its lower half.

    >>> packed(np.array([[1, 2, 3]], dtype=np.uint8), 4).tolist()
    [[33, 3]]
    """
    if bits == 8:
        return codes
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return (even[:, ::2] | even[:, 1::2] << 4).astype(np.uint8)


def unpacked(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The inverse of `packed`, for rows of `count` codes."""
    if bits == 8:
        return data
    return np.stack([data & 15, data >> 4], axis=-1).reshape(len(data), -1)[:, :count]


def tie(model: ModelProto) -> None:
    """Let the embedding read from the codes of the head that it is tied to, in place."""
    weight = (f"{HEAD}.weight", f"{HEAD}.weight_DequantizeLinear_Output")  # the latter after `quantize_static`
    (lookup,) = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in weight]
    _replace(model, lookup, _rows_of_blocks(model, lookup) if _coded(model) else _columns_of_integers(model, lookup))


def _coded(model: ModelProto) -> NodeProto | None:
    return next((n for n in model.graph.node if n.op_type == "MatMulNBits" and n.name == HEAD), None)


def _rows_of_blocks(model: ModelProto, lookup: NodeProto) -> list[NodeProto]:
    """Nodes that read rows of what `put_codes` put in."""
    head = _coded(model)
    assert head is not None
    sizes = {attribute.name: attribute.i for attribute in head.attribute}
    _add(model, "lookup.shape", np.array([sizes["N"], -1]))
    own = {"gather_axis": 0, "quantize_axis": 1, "block_size": sizes["block_size"], "bits": sizes["bits"]}
    scale, *zero = head.input[2:]
    inputs = ["lookup.codes", lookup.input[1], scale, *zero]
    divisor = f"{HEAD}.divisor"
    divided = any(tensor.name == divisor for tensor in model.graph.initializer)
    return [
        helper.make_node("Reshape", [head.input[1], "lookup.shape"], ["lookup.codes"]),
        helper.make_node("GatherBlockQuantized", inputs, ["lookup.rows"], domain=_ENGINE, **own),
        *([helper.make_node("Div", ["lookup.rows", divisor], ["lookup.divided"])] if divided else []),
        helper.make_node("Transpose", ["lookup.divided" if divided else "lookup.rows"], lookup.output, perm=[1, 0]),
    ]


def _columns_of_integers(model: ModelProto, lookup: NodeProto) -> list[NodeProto]:
    """Nodes that read columns of what the library's quantizers make of a weight."""
    parts = {part: f"{HEAD}.weight_{part}" for part in ("quantized", "scale", "zero_point")}
    shared = _size(model, parts["scale"]) == 1
    apart = ["quantized"] if shared else list(parts)
    inputs = [f"lookup.{part}" if part in apart else name for part, name in parts.items()]
    return [
        *(
            helper.make_node("Gather", [parts[p], lookup.input[1]], [f"lookup.{p}"], axis=int(p == "quantized"))
            for p in apart
        ),
        helper.make_node("DequantizeLinear", inputs, lookup.output, axis=1),
    ]


def _size(model: ModelProto, name: str) -> int:
    return int(np.prod(next(tensor.dims for tensor in model.graph.initializer if tensor.name == name)))


def _add(model: ModelProto, name: str, array: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _replace(model: ModelProto, old: NodeProto, new: Sequence[NodeProto]) -> None:
    """Put nodes in the place of one, and take out the tensors that are used no more."""
    graph = model.graph
    place = list(graph.node).index(old)
    del graph.node[place]
    for offset, node in enumerate(new):
        graph.node.insert(place + offset, node)
    used = {name for node in graph.node for name in node.input}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def save(model: ModelProto, directory: Path, name: str) -> None:
    """Write a graph, and its tensors beside it; the graph names their file relative to itself."""
    written = ModelProto()
    written.CopyFrom(model)  # saving takes the tensors out
    whole = {"save_as_external_data": True, "all_tensors_to_one_file": True, "size_threshold": _INLINE}
    onnx.save_model(written, directory / f"{name}.onnx", location=f"{name}.bin", **whole)


def bytes_of(model: ModelProto) -> int:
    """Of all tensors."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


def layer_report(models: Sequence[ModelProto], candidate: Candidate, asked: WeightCode | None) -> LayerReport:
    """What the graphs hold of a layer, beside what was asked.

    Raises:
        ModelError: that is another code.
    """
    parts = _parts(models, candidate)
    if ".codes" in parts:
        weight, code = _of_blocks(parts, candidate.weight.shape[1])
    elif "_quantized" in parts:
        weight, code = _of_integers(parts)
    else:
        weight, code = parts[""] if candidate.kind is ModuleKind.CONV else parts[""].T, None
    if code != asked:
        raise ModelError(f"{candidate.name}: it is coded as {code}, not as {asked}")
    if "divisor" in parts:
        weight = weight / parts["divisor"]
    original = candidate.weight.float().numpy()
    error = np.linalg.norm(weight.reshape(original.shape) - original) / np.linalg.norm(original)
    return LayerReport(
        candidate.name,
        candidate.kind,
        tuple(original.shape),
        asked,
        code,
        "" if code else "not requested",
        _bits(parts),
        float(error),
        lookup=candidate.lookup,
    )


def stored_bits(models: Sequence[ModelProto], layer: LayerReport) -> int:
    """Of codes, scales and zero points of a layer, or of its float weight."""
    return _bits(_parts(models, layer))


def _bits(parts: Mapping[str, Any]) -> int:
    return 8 * sum(part.nbytes for name, part in parts.items() if name != "divisor")


def _parts(models: Sequence[ModelProto], candidate: Candidate | LayerReport) -> dict[str, Any]:
    """The tensors of a layer by what follows its name: one of floats, or codes with their scales and zero points."""
    tensors = {tensor.name: tensor for model in models for tensor in model.graph.initializer}
    key, divisor = f"{candidate.name}.weight", f"{candidate.name}.divisor"
    if candidate.kind is ModuleKind.EMBEDDING:
        # Looked up in rows where it stands alone, and in columns where it is the head's.
        floats = numpy_helper.to_array(tensors.get(key) or tensors[f"{HEAD}.weight"])
        return {"": floats.T if key in tensors else floats}
    own = {name.removeprefix(key): numpy_helper.to_array(tensors[name]) for name in tensors if name.startswith(key)}
    return own | ({"divisor": numpy_helper.to_array(tensors[divisor])} if divisor in tensors else {})


def _of_blocks(parts: Mapping[str, Any], columns: int) -> tuple[Any, WeightCode]:
    """The weight, (rows, columns), that `put_codes` put in, and its code."""
    data, scale, zero = parts[".codes"], parts[".scale"].astype(np.float32), parts.get(".zero")
    rows, groups, size = data.shape
    bits = 8 * size * groups // columns
    codes = unpacked(data.reshape(rows, -1), bits, columns).reshape(rows, groups, -1).astype(np.float32)
    middle = 2 ** (bits - 1) if zero is None else unpacked(zero, bits, groups)[:, :, None]
    code = WeightCode(bits, NumberFormat.INT, PerGroup(columns // groups), zero is None)
    return ((codes - middle) * scale[:, :, None]).reshape(rows, columns), code


def _of_integers(parts: Mapping[str, Any]) -> tuple[Any, WeightCode]:
    """The weight, (rows, columns), that the library's quantizers made, and its code.

    Symmetric codes of 7 bits are -64 to 64 there, and nothing tells them from 8 bits but that none is larger.
    """
    codes, scale, zero = (parts[name] for name in ("_quantized", "_scale", "_zero_point"))
    bits = 7 if codes.dtype == np.int8 and np.abs(codes.astype(np.int32)).max() <= 64 else 8
    granularity = PerTensor() if scale.size == 1 else PerChannel()
    weight = (codes.astype(np.float32) - zero) * scale
    return weight.T, WeightCode(bits, NumberFormat.INT, granularity, codes.dtype == np.int8)
