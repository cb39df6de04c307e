"""Rebuilding HQQ's linear layer from packed tensors."""

from __future__ import annotations

from typing import Any

import torch
from hqq.core.quantize import HQQLinear, Quantizer
from torch import Tensor, nn

from backends.core.codes import PerGroup
from backends.core.spec import QuantSpec


def restore(module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, axis: int) -> nn.Module:
    """An `HQQLinear` with the given codes; `module` is the float linear layer whose place it takes."""
    out_features, in_features = module.weight.shape  # type: ignore[union-attr, misc]
    scale = tensors["scale"]
    packing = Quantizer.bit_to_packing[spec.bits]
    linear: Any = HQQLinear(None, None, compute_dtype=scale.dtype, device=str(scale.device), initialize=False)
    linear.in_features, linear.out_features = in_features, out_features
    linear.W_q = nn.Parameter(tensors["codes"], requires_grad=False)
    linear.bias = tensors.get("bias")
    linear.meta = {
        "nbits": spec.bits,
        "group_size": spec.granularity.group_size if isinstance(spec.granularity, PerGroup) else in_features,
        "shape": torch.Size((out_features, in_features)),
        "scale": scale,
        "zero": tensors["zero_point"],
        "axis": axis,
        "packing": packing,
        "unpack_view_dtype": Quantizer.unpack_view_dtype[packing],
        "view_as_float": False,
        "quant_scale": False,
        "quant_zero": False,
        "compute_dtype": scale.dtype,
    }
    linear.ready = True
    restored: nn.Module = linear.eval()
    return restored


def dequantized_rows(module: nn.Module, rows: Tensor) -> Tensor:
    """Some rows of the float weight, (n, columns), for (n,) indices; other rows are not unpacked.

    Where groups do not lie within a row, the whole weight is.
    """
    linear: Any = module
    meta, packed = linear.meta, linear.W_q
    columns = meta["shape"][1]
    if meta["axis"] == 0 or columns % meta["group_size"]:
        restored: Tensor = linear.dequantize()[rows]
        return restored
    groups = columns // meta["group_size"]
    own = (rows[:, None] * groups + torch.arange(groups, device=rows.device)).reshape(-1)
    codes = packed[own % len(packed)]
    if meta["packing"]:
        bits, in_a_word = meta["nbits"], _CODES_IN_A_WORD[meta["nbits"]]
        shifts = (in_a_word - 1 - own // len(packed)) * bits
        codes = (codes >> shifts[:, None].to(codes.dtype)) & (2**bits - 1)
    codes = codes.to(meta["compute_dtype"])
    return ((codes - meta["zero"][own]) * meta["scale"][own]).reshape(-1, columns)


_CODES_IN_A_WORD = {8: 1, 6: 1, 5: 1, 4: 2, 3: 10, 2: 4, 1: 8}
"""HQQ packs the first codes of all into the highest bits."""
