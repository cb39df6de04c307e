"""The tensors of a quantized model by name: packed modules, what stayed float, and shared ones once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.core.base import Backend, Packing
from backends.core.errors import CheckpointError
from backends.core.report import QuantReport

if TYPE_CHECKING:
    from torch import Tensor, nn


def state(backend: Backend, model: Any, report: QuantReport) -> tuple[list[str], dict[str, Tensor]]:
    """Names of the modules that are packed, and all tensors: theirs, and what stayed float outside engines."""
    from torch import nn

    if not isinstance(model, nn.Module):
        return [], {}
    if not isinstance(backend, Packing):
        return [], float_state(model, [])
    names = [layer.name for layer in report.layers if layer.effective is not None]
    return names, packed(backend, model, names) | float_state(model, names)


def packed(backend: Packing, model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """The tensors of quantized modules as they are saved."""
    return {
        f"{name}.{key}": tensor.detach().contiguous()
        for name in names
        for key, tensor in backend.pack(model.get_submodule(name)).items()
    }


def float_state(model: nn.Module, quantized: list[str], *, computed: bool = False) -> dict[str, Tensor]:
    """Parameters and persistent buffers outside the quantized modules; every name of a shared one.

    Args:
        model: looked into.
        quantized: names of its quantized modules.
        computed: in the dtype in which they are computed, not that in which they are stored.
    """
    from backends.core.rest import Widened, stored_float

    inside = tuple(name + "." for name in quantized)
    state = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if (prefix + ".").startswith(inside) or isinstance(module, Widened):
            continue
        narrow = stored_float(module)
        if narrow is not None:
            wide = module[0].computed if computed else narrow.dtype  # type: ignore[index]
            state[prefix.replace(".parametrizations.", ".")] = narrow.to(wide)
            continue
        own = {**module._parameters, **module._buffers}
        for key, tensor in own.items():
            if tensor is not None and key not in module._non_persistent_buffers_set:
                state[f"{prefix}.{key}".lstrip(".")] = tensor.detach()
    return state


def without_aliases(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    first: dict[Any, str] = {}
    unique, aliases = {}, {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype) if tensor.numel() else name
        if key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            unique[name] = tensor.contiguous()
    return unique, aliases


def check_fits(model: nn.Module, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Raise where a module that was built for the saved tensors has others, or other shapes."""
    names, modules, layers = manifest["modules"], dict(model.named_modules()), manifest["report"]["layers"]
    packed = {layer["name"]: tuple(layer["shape"]) for layer in layers if layer["name"] in names}
    tied = [layer["lookup"] for layer in layers if layer.get("lookup")]
    expected = packed | {
        key: tuple(tensor.shape)
        for key, tensor in tensors.items()
        if not key.startswith(tuple(f"{name}." for name in names))
    }
    weights = {name: getattr(modules.get(name), "weight", None) for name in names}
    found = {name: tuple(weight.shape) for name, weight in weights.items() if weight is not None} | {
        key: tuple(tensor.shape) for key, tensor in float_state(model, [*names, *tied]).items()
    }
    others = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if others:
        raise CheckpointError(f"{directory}: the model given is not like the saved one: {', '.join(others[:8])}")


def keys_of(name: str, tensors: dict[str, Tensor]) -> list[str]:
    return [key for key in tensors if key.startswith(name + ".")]


def fill(model: nn.Module, tensors: Mapping[str, Tensor], quantized: Sequence[str], stored: str | None) -> None:
    """Put saved floats into `model` by name, in place; a tensor under two names becomes one shared parameter.

    Args:
        model: its quantized modules in their places.
        tensors: by name.
        quantized: names of the quantized modules.
        stored: dtype of those that are computed in float32 but stored narrow; see `rest_dtype`.
    """
    if stored is None:
        _put(model, tensors)
        return
    import torch

    from backends.core.rest import narrow, places_of

    dtype = getattr(torch, stored)
    wide = {id(tensor): tensor.float() if tensor.dtype is dtype else tensor for tensor in tensors.values()}
    _put(model, {name: wide[id(tensor)] for name, tensor in tensors.items()})
    narrow(list(places_of(model, quantized)), dtype)


def _put(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    from torch import nn

    parameters: dict[int, nn.Parameter] = {}
    for name, tensor in tensors.items():
        prefix, _, key = name.rpartition(".")
        module = model.get_submodule(prefix)
        if key in module._buffers:
            module._buffers[key] = tensor
        else:
            module._parameters[key] = parameters.setdefault(id(tensor), nn.Parameter(tensor, requires_grad=False))
