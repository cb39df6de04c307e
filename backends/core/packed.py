"""torch.ao's packed parameters as plain tensors and back, shared by the two torch.ao adapters.

torch.ao keeps weights in script objects that safetensors cannot see; here they become codes, scales
and zero points. A half-precision packed weight is two bytes an element in memory although torch.ao
unpacks it as fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def unpack_weight_and_bias(packed: torch.ScriptObject) -> tuple[Tensor, Tensor | None, int]:
    """Return (weight, bias, bytes of one weight element in memory) of a packed linear, convolution or embedding."""
    import torch

    kind = packed._type().name()  # type: ignore[attr-defined]
    if kind == "EmbeddingPackedParamsBase":
        return torch.ops.quantized.embedding_bag_unpack(packed), None, 1
    if kind == "Conv2dPackedParamsBase":
        weight, bias = torch.ops.quantized.conv2d_unpack(packed)
        return weight.squeeze(2), bias, 1
    weight, bias = torch.ops.quantized.linear_unpack(packed)
    return weight, bias, 1 if weight.is_quantized else 2


def weight_to_tensors(weight: Tensor) -> dict[str, Tensor]:
    """Split a quantized weight into `codes`, `scale` and `zero_point`; a half-precision weight into `weight`.

    Scales come from fp32 observers, so 32 bits keep them exactly.
    """
    import torch

    if not weight.is_quantized:
        return {"weight": weight.half()}
    codes = weight.int_repr()
    if weight.qscheme() == torch.per_tensor_affine:
        scale = torch.tensor(weight.q_scale(), dtype=torch.float64)
        return {"codes": codes, "scale": scale, "zero_point": torch.tensor(weight.q_zero_point())}
    scale, zero_point = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
    if zero_point.dtype is torch.int64:  # widened when unpacked: the kernels hold 32 bits of both
        scale, zero_point = scale.float(), zero_point.int()
    return {"codes": codes, "scale": scale.clone(), "zero_point": zero_point.clone()}


def weight_from_tensors(tensors: dict[str, Tensor]) -> Tensor:
    """The inverse of `weight_to_tensors`, bit for bit."""
    import torch

    if "weight" in tensors:
        return tensors["weight"].float()
    codes, scale, zero_point = tensors["codes"], tensors["scale"], tensors["zero_point"]
    if scale.ndim == 0:
        return torch._make_per_tensor_quantized_tensor(codes, float(scale), int(zero_point))
    if zero_point.dtype is torch.int32:
        scale, zero_point = scale.double(), zero_point.long()
    return torch._make_per_channel_quantized_tensor(codes, scale, zero_point, 0)


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Pack for another engine than the process's own; the packed weight remembers its engine."""
    import torch

    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
