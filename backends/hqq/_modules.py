"""Rebuilding HQQ's linear layer from packed tensors."""

from __future__ import annotations

from typing import Any

import torch
from hqq.core.quantize import HQQLinear, Quantizer
from torch import Tensor, nn

from backends.core.spec import PerGroup, QuantSpec


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
