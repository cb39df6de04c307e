"""What CTranslate2's `model.bin` holds, read as its own `model_spec.py` writes it, layer by layer.

Projections of one attention are rows of one variable: queries, keys and values where it attends to itself, keys and
values where it attends to the encoder. A variable that equals another (the head tied to the embedding) is an alias.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from backends.core.codes import Activations, NumberFormat, WeightCode
from backends.core.errors import ModelError
from backends.core.report import LayerReport
from backends.core.selection import Candidate
from backends.core.spec import ModuleKind

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = 6
_DTYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_IN_A_LAYER = {
    "self_attn.q_proj": ("self_attention/linear_0", 0),
    "self_attn.k_proj": ("self_attention/linear_0", 1),
    "self_attn.v_proj": ("self_attention/linear_0", 2),
    "self_attn.out_proj": ("self_attention/linear_1", 0),
    "encoder_attn.q_proj": ("attention/linear_0", 0),
    "encoder_attn.k_proj": ("attention/linear_1", 0),
    "encoder_attn.v_proj": ("attention/linear_1", 1),
    "encoder_attn.out_proj": ("attention/linear_2", 0),
    "fc1": ("ffn/linear_0", 0),
    "fc2": ("ffn/linear_1", 0),
}
"""Of a module in a layer: the variable, and which of the modules that share it comes how many places before."""
_OUTSIDE = {
    "model.encoder.conv1": "encoder/conv1",
    "model.encoder.conv2": "encoder/conv2",
    "model.decoder.embed_tokens": "decoder/embeddings",
    "proj_out": "decoder/projection",
}
_FLOAT_INPUTS = (ModuleKind.CONV, ModuleKind.EMBEDDING)
"""CTranslate2 turns their integer weights back into floats and computes with these."""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All variables of a `model.bin`, and the names of those that are another one.

    Raises:
        ModelError: the file has another layout.
    """
    with path.open("rb") as file:
        version = _number(file, "I")
        if version != _VERSION:
            raise ModelError(f"{path} has the layout {version} of CTranslate2; this release reads {_VERSION}")
        _text(file), _number(file, "I")  # name and revision of the kind of model
        variables = dict(_variable(file) for _ in range(_number(file, "I")))
        aliases = {_text(file): _text(file) for _ in range(_number(file, "I"))}
    return variables, aliases


def _variable(file: BinaryIO) -> tuple[str, Tensor]:
    import torch

    name = _text(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    dtype = getattr(torch, _DTYPES[_number(file, "B")])
    return name, torch.frombuffer(bytearray(file.read(_number(file, "I"))), dtype=dtype).reshape(shape)


def _number(file: BinaryIO, code: str) -> int:
    return int(struct.unpack(code, file.read(struct.calcsize(code)))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode()


def bytes_of(variables: Mapping[str, Tensor]) -> int:
    """Of all numbers; an alias has none of its own."""
    return sum(tensor.numel() * tensor.element_size() for tensor in variables.values())


def layer_reports(
    path: Path, originals: Sequence[tuple[Candidate, Tensor]], code: WeightCode | None, activations: Activations | None
) -> tuple[tuple[LayerReport, ...], int]:
    """One report for every candidate, and the bytes of all variables.

    Args:
        path: of a `model.bin`.
        originals: candidates with copies of their float weights.
        code: that was asked for, `None` for full precision.
        activations: how inputs are coded.
    """
    variables, aliases = read(path)
    reports = tuple(_report(c, weight, variables, aliases, code, activations) for c, weight in originals)
    return reports, bytes_of(variables)


def _report(
    candidate: Candidate,
    original: Tensor,
    variables: Mapping[str, Tensor],
    aliases: Mapping[str, str],
    code: WeightCode | None,
    activations: Activations | None,
) -> LayerReport:
    name, place = _where(candidate.name)
    name = aliases.get(name, name)
    rows = slice(place * len(original), (place + 1) * len(original))
    stored, scale = variables[name][rows], variables.get(f"{name}_scale")
    numbers = stored.float().flatten(1)
    bits = stored.numel() * stored.element_size() * 8
    if scale is not None:
        own = scale.reshape(-1, 1)[rows] if scale.dim() else scale
        numbers = numbers / own
        bits += own.numel() * 32 if scale.dim() or place == 0 else 0
    expected = original.float().flatten(1)
    float_inputs = activations is not None and candidate.kind in _FLOAT_INPUTS
    return LayerReport(
        candidate.name,
        candidate.kind,
        tuple(original.shape),
        code,
        code,
        _reason(code, len(variables[name]) > len(original), float_inputs),
        bits,
        float((numbers - expected).norm() / expected.norm()),
        float_inputs,
    )


def _where(module: str) -> tuple[str, int]:
    """The variable of a module's weight, and its place in it."""
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}/weight", 0
    found = re.fullmatch(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)", module)
    if found is None or found[3] not in _IN_A_LAYER:
        raise ModelError(f"CTranslate2's Whisper has no {module}")
    variable, place = _IN_A_LAYER[found[3]]
    return f"{found[1]}/layer_{found[2]}/{variable}/weight", place


def _reason(code: WeightCode | None, shared: bool, float_inputs: bool) -> str:
    if code is None:
        return "full precision"
    sixteen = code.format is NumberFormat.INT and code.bits == 16
    parts = [
        "codes reach 1024, so that sums fit 32 bits" if sixteen else "",
        "one scale with the projections beside it" if sixteen and shared else "",
        "weights are turned back into floats: inputs stay float" if float_inputs else "",
    ]
    return "; ".join(filter(None, parts))
