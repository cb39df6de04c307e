"""Fingerprints: a hash of all that decides what a part of a quantized model computes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backends.core.base import Packing, package_versions
from backends.core.checkpoint import Quantized
from backends.core.recipes import decide
from backends.core.registry import get
from backends.core.report import LayerReport
from backends.core.selection import part_of
from backends.core.serial import spec_to_dict, to_jsonable
from backends.core.spec import ModuleKind
from backends.core.state import float_state, packed

if TYPE_CHECKING:
    from torch import Tensor, nn


def fingerprint(quantized: Quantized, part: nn.Module) -> str | None:
    """SHA-256 of a part of a quantized model: its tensors, packed ones as they are saved, and how they are computed.

    Of a part in which nothing is quantized it is the same for every backend. Which other modules of the model are
    quantized does not matter.

    Args:
        quantized: its model is an `nn.Module`.
        part: a module of it, such as the encoder.

    Returns:
        Hexadecimal; `None` where the backend computes unseen.
    """
    backend, model = get(quantized.backend), quantized.model
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}  # type: ignore[union-attr]
    inside = f"{names[part]}."
    layers = [
        layer for layer in quantized.report.layers if layer.effective is not None and layer.name.startswith(inside)
    ]
    if layers and not isinstance(backend, Packing):
        return None
    digest = hashlib.sha256()
    own = [layer.name.removeprefix(inside) for layer in layers]
    tensors = {**(packed(backend, part, own) if layers else {}), **float_state(part, own, computed=True)}  # type: ignore[arg-type]
    _add(digest, tensors)
    if layers:
        asked = [_asked(quantized, layer) for layer in layers]
        how = [quantized.backend, asked, to_jsonable(quantized.options), package_versions(backend), own]
        digest.update(json.dumps(how, sort_keys=True).encode())
    return digest.hexdigest()


def _asked(quantized: Quantized, layer: LayerReport) -> dict[str, Any]:
    """What is asked of a layer, without how it came to be chosen."""
    where = None if layer.kind is ModuleKind.TIED else part_of(quantized.model, layer.name)  # type: ignore[arg-type]
    _, spec = decide(quantized.spec, layer.name, layer.kind, where)
    assert spec is not None, "a quantized layer is one that was asked for"
    return {key: value for key, value in spec_to_dict(spec).items() if key not in ("modules", "parts", "rest")}


def _add(digest: hashlib._Hash, tensors: Mapping[str, Tensor]) -> None:
    import torch

    for name, tensor in sorted(tensors.items()):
        whole = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(whole.dtype), list(whole.shape)]).encode())
        digest.update(whole.reshape(-1).view(torch.uint8).numpy().data)
