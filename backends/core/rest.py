"""Storing what is not quantized in 16 bits, while it is computed in the model's own dtype.

A parameter or buffer is kept narrow and widened whenever it is read (`torch.nn.utils.parametrize`), so that memory and
files are small and nothing that computes has to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from backends.core.errors import ModelError
from backends.core.selection import Candidate
from backends.core.spec import Rest

_DTYPES = {Rest.FP16: torch.float16, Rest.BF16: torch.bfloat16}


class Widened(nn.Module):
    """Reads numbers that are stored narrow as the wide numbers that they were.

    They are stored as whole numbers of the same bits: a model's dtype, which transformers takes from its first
    floating parameter, stays what it was.

    Args:
        stored, computed: dtypes.
    """

    def __init__(self, stored: torch.dtype, computed: torch.dtype) -> None:
        super().__init__()
        self.stored, self.computed = stored, computed
        self.like = nn.Parameter(torch.empty(0, dtype=computed), requires_grad=False)

    def forward(self, bits: Tensor) -> Tensor:
        """Stored bits to numbers, in `computed`."""
        return bits.view(self.stored).to(self.computed)


def store_rest(model: nn.Module, rest: Rest, quantized: Sequence[str]) -> str:
    """Store the floats of `model` outside its quantized modules as `rest` says, in place.

    Args:
        model: changed.
        rest: as what.
        quantized: names of the modules that are left as they are; but for the bias of those that widen it themselves,
            which have an attribute `widens_bias` that is true. Other libraries hold their biases in their own way.

    Returns:
        A sentence on what that changed; empty where nothing did.

    Raises:
        ModelError: a number is beyond the range of the dtype, or all of it is in 16 bits already.
    """
    places = list(places_of(model, quantized))
    inside: dict[str, Any] = {name: model.get_submodule(name) for name in quantized}
    biases = [Place(name, module, "bias", module.bias) for name, module in inside.items() if _widens_bias(module)]
    tensors = {id(place.tensor): place.tensor for place in [*places, *biases]}
    stored = _dtype_of(rest, list(tensors.values()))
    if stored is None:
        return ""
    _check([*places, *biases], rest, stored)
    changed = sum(int((tensor.to(stored).to(tensor.dtype) != tensor).sum()) for tensor in tensors.values())
    narrow(places, stored)
    for place in biases:
        setattr(place.module, place.key, place.tensor.to(stored))
    if not changed:
        return ""
    return f"of what is not quantized {changed} numbers of {sum(t.numel() for t in tensors.values())} were rounded"


def bytes_saved(model: nn.Module, rest: Rest) -> int:
    """Bytes that all floats of `model` that are wider than 16 bits will have less, stored as `rest` says."""
    tensors = {id(place.tensor): place.tensor for place in places_of(model, ())}.values()
    return 0 if _dtype_of(rest, list(tensors)) is None else sum(tensor.nbytes for tensor in tensors) // 2


def _dtype_of(rest: Rest, tensors: Sequence[Tensor]) -> torch.dtype | None:
    """As what `tensors` are stored; `None` where they stay as they are."""
    return _narrowest(tensors) if rest is Rest.PUBLISHED else _DTYPES.get(rest)


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: its module's full name, the module, and the tensor's name in it."""

    name: str
    module: nn.Module
    key: str
    tensor: Tensor


def places_of(model: nn.Module, quantized: Sequence[str]) -> Iterator[Place]:
    """Floats that are wider than 16 bits, outside the quantized modules."""
    inside = tuple(f"{name}." for name in quantized)
    for prefix, module in model.named_modules():
        if f"{prefix}.".startswith(inside) or isinstance(module, Widened):
            continue
        for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
            wide = tensor is not None and tensor.dtype is torch.float32
            if tensor is not None and wide and key not in module._non_persistent_buffers_set:
                yield Place(prefix, module, key, tensor)


def _widens_bias(module: Any) -> bool:
    return getattr(module, "widens_bias", False) and module.bias is not None and module.bias.dtype is torch.float32


def stored_bits(candidate: Candidate) -> int:
    """Bits that the weight of a candidate that stayed float takes, as it is stored."""
    places: Any = getattr(candidate.module, "parametrizations", {})
    narrow = stored_float(places["weight"]) if "weight" in places else None
    weight = candidate.weight if narrow is None else narrow
    return weight.numel() * weight.element_size() * 8


def rest_dtype(model: nn.Module) -> str | None:
    """Name of the dtype in which `model` stores what is not quantized, where that is narrower than it computes."""
    return next((str(module.stored)[6:] for module in model.modules() if isinstance(module, Widened)), None)


def _narrowest(tensors: Sequence[Tensor]) -> torch.dtype | None:
    """The first of float16 and bfloat16 that holds every number of `tensors`, or `None`."""
    for dtype in _DTYPES.values():
        if all(torch.equal(tensor.to(dtype).to(tensor.dtype), tensor) for tensor in tensors):
            return dtype
    return None


def _check(places: Sequence[Place], rest: Rest, dtype: torch.dtype) -> None:
    if not places:
        raise ModelError(
            f"rest = {rest}: nothing left is wider than 16 bits: load the model in float32, or leave rest out"
        )
    largest = torch.finfo(dtype).max
    for place in places:
        if place.tensor.numel() and float(place.tensor.abs().max()) > largest:
            raise ModelError(
                f"{place.name}.{place.key} has numbers beyond the range of {str(dtype)[6:]}: choose another rest, "
                "such as bf16"
            )


def narrow(places: Sequence[Place], stored: torch.dtype) -> None:
    """Keep tensors in `stored` and read them in their own dtype; one that stands in two places stays one."""
    kept: dict[int, nn.Parameter] = {}
    for place in places:
        number = id(place.tensor)
        if number not in kept:
            bits = place.tensor.detach().to(stored).view(torch.int16)
            kept[number] = nn.Parameter(bits, requires_grad=False)
        parametrize.register_parametrization(place.module, place.key, Widened(stored, place.tensor.dtype), unsafe=True)
        parametrization: Any = place.module.parametrizations[place.key]  # type: ignore[index, union-attr]
        del parametrization.original
        parametrization.register_parameter("original", kept[number])


def stored_float(module: nn.Module) -> Tensor | None:
    """What a place of narrow numbers holds, as the 16-bit floats that they are; `None` where `module` is no such place.

    Args:
        module: `parametrizations.KEY` of the module whose tensor `KEY` is stored narrow.
    """
    if not isinstance(module, parametrize.ParametrizationList) or not isinstance(module[0], Widened):
        return None
    bits: Tensor = module.original.detach()  # type: ignore[operator, union-attr]
    return bits.view(module[0].stored)
