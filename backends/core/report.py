"""Reports: one for every layer, and bytes counted over distinct storages.

A storage that two tensors share is counted once. Tensor subclasses are opened, and so are the
places where libraries hide their numbers: packed script objects, quantization states, plain
attributes and dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backends.core.codes import WeightCode
from backends.core.spec import ModuleKind

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class LayerReport:
    """One module that could have been quantized.

    Attributes:
        name: qualified name in the model.
        kind: which of the spec's kinds of modules it is.
        shape: of its weight.
        requested: the code that the spec asked for, `None` where it asked for none, or left the bits to the method.
        effective: the code that it has, `None` where the weight stayed float.
        reason: why `effective` differs from `requested`, or why nothing was asked.
        stored_bits: of the weight as stored: codes, scales, zero points and padding.
        weight_error: relative Frobenius error of the dequantized weight, ||W' - W|| / ||W||.
        float_inputs: whether its inputs stay float although the scheme quantizes activations.
        lookup: of a tie, the name of the embedding that reads its rows; empty otherwise.
    """

    name: str
    kind: ModuleKind
    shape: tuple[int, ...]
    requested: WeightCode | None
    effective: WeightCode | None
    reason: str
    stored_bits: int
    weight_error: float
    float_inputs: bool = False
    lookup: str = ""

    @property
    def parameters(self) -> int:
        """Number of weights."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def effective_bits(self) -> float:
        """Stored bits per weight, scales and zero points included."""
        return self.stored_bits / self.parameters


@dataclass(frozen=True)
class QuantReport:
    """What a quantization did.

    Attributes:
        layers: one report per candidate module, in the model's order.
        size_bytes: of the whole model, over distinct storages.
        full_precision_bytes: of the whole model before, in the dtype in which it was loaded.
        notes: what a reader of the numbers should know.
    """

    layers: tuple[LayerReport, ...]
    size_bytes: int
    full_precision_bytes: int
    notes: tuple[str, ...] = field(default=())

    @property
    def size_reduction(self) -> float:
        """1 - size / full-precision size."""
        return 1 - self.size_bytes / self.full_precision_bytes

    @property
    def effective_bits(self) -> float:
        """Stored bits per weight over the quantized layers; over all candidates where none is quantized."""
        layers = [layer for layer in self.layers if layer.effective is not None] or self.layers
        weights = sum(layer.parameters for layer in layers)
        return sum(layer.stored_bits for layer in layers) / weights if weights else float("nan")


def size_bytes(model: nn.Module) -> int:
    """Bytes of all numbers that `model` holds in memory, each storage once; buffers included."""
    storages: dict[Any, int] = {}
    for module in model.modules():
        for tensor in _tensors(_state(module), set()):
            storages.update(_storage(tensor))
    return sum(storages.values())


def _state(module: nn.Module) -> dict[str, Any]:
    """A module's own parameters, buffers and plain attributes, without its children."""
    own = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    hidden = {key: vars(module)[key] for key in _HIDDEN if key in vars(module)}
    return {**own, **hidden, **module._parameters, **module._buffers}


_HIDDEN = ("_packed_params", "_packed_weight")


def _tensors(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every tensor and packed script object reachable from `value`; modules are left to their own walk."""
    import torch
    from torch import nn

    if id(value) in seen or value is None or isinstance(value, (nn.Module, str, int, float, bool, type)):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield from _open(value, seen)
    elif isinstance(value, torch.ScriptObject):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item, seen)
    elif type(value).__module__.startswith("bitsandbytes"):
        for item in vars(value).values():
            yield from _tensors(item, seen)


def _open(tensor: torch.Tensor, seen: set[int]) -> Iterator[torch.Tensor]:
    """The plain tensors inside one tensor: of a subclass its inner tensors, and what hangs on its attributes."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _open(getattr(tensor, name), seen)
        return
    yield tensor
    for item in vars(tensor).values():
        yield from _tensors(item, seen)


def _storage(value: Any) -> dict[Any, int]:
    """Identity and bytes of the storages of one tensor or packed script object."""
    import torch

    if isinstance(value, torch.ScriptObject):
        return {("packed", id(value)): packed_bytes(value)}
    if value.is_quantized:
        return {("quantized", value.data_ptr()): _quantized_bytes(value)}
    storage = value.untyped_storage()
    return {(value.device, storage.data_ptr()): storage.nbytes()} if storage.nbytes() else {}


def packed_bytes(packed: torch.ScriptObject) -> int:
    """Bytes of what a packed linear, convolution or embedding of torch.ao holds: weight, scales, zero points, bias."""
    from backends.core.packed import unpack_weight_and_bias

    weight, bias, element_bytes = unpack_weight_and_bias(packed)
    weight_bytes = _quantized_bytes(weight) if weight.is_quantized else weight.numel() * element_bytes
    return weight_bytes + (0 if bias is None else bias.numel() * bias.element_size())


def _quantized_bytes(tensor: torch.Tensor) -> int:
    """Codes, and a scale and zero point of 32 bits each a tensor or row, as the kernels hold them."""
    import torch

    per_tensor = tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric)
    slices = 1 if per_tensor else tensor.q_per_channel_scales().numel()
    return tensor.numel() * tensor.element_size() + 8 * slices
