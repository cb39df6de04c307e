"""Quanto's linear layer, made as a spec says, and with an unpacking that needs no compiler."""

from __future__ import annotations

from typing import Any

import torch
from optimum.quanto import Calibration, qfloat8_e4m3fn, qint2, qint4, qint8
from optimum.quanto.nn import QLinear
from optimum.quanto.tensor import HqqOptimizer, QTensor, WeightQBitsTensor, WeightQBytesTensor
from optimum.quanto.tensor.grouped import ungroup
from torch import Tensor, nn

from backends.core.codes import Activations, NumberFormat, PerGroup
from backends.core.observing import counted
from backends.core.spec import QuantSpec

_INTEGERS = {8: qint8, 4: qint4, 2: qint2}


class PortableLinear(QLinear):  # type: ignore[misc]
    """Quanto's `QLinear` whose int4 and int2 weights are unpacked in plain torch."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Same as Quanto's, bit for bit."""
        return nn.functional.linear(inputs, dequantized(self.weight), self.bias)


class CountedCalibration(Calibration):  # type: ignore[misc]
    """Quanto's calibration, which does not see padding, and need not look for who takes quantized outputs."""

    def __init__(self) -> None:
        super().__init__(streamline=False)

    def calibrate_input(self, module: nn.Module, inputs: Any, momentum: float = 0.9) -> Any:
        """Update the input's scale."""
        super().calibrate_input(module, (counted(inputs[0]),) if isinstance(module, QLinear) else inputs, momentum)


def make(module: nn.Module, spec: QuantSpec, options: Any) -> Any:
    """Quanto's module for a float linear layer, its weights not frozen yet; the float module is not changed.

    Its output is never quantized. Quanto would, wherever its calibration sees the next operation take codes.
    """
    packed = spec.bits in (4, 2)
    kind = PortableLinear if packed and options.unpack == "torch" else QLinear
    weights = qfloat8_e4m3fn if spec.format is NumberFormat.FP8_E4M3 else _INTEGERS[spec.bits or 0]
    optimizer = HqqOptimizer() if spec.method == "hqq" else None
    made = kind.from_module(
        module, weights=weights, activations=_activation_type(spec.activations), optimizer=optimizer
    )
    made.weight_group_size = spec.granularity.group_size if isinstance(spec.granularity, PerGroup) else None
    made.disable_output_quantization()
    return made.eval()


def fill(module: Any, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of `module.state_dict()` back; Quanto's own loading would compile its extension to repack."""
    weight = {key.removeprefix("weight."): tensor for key, tensor in tensors.items() if key.startswith("weight.")}
    shape, missing = module.weight.shape, list[str]()
    common = {"qtype": module.weight_qtype, "axis": 0, "size": shape, "stride": module.weight.stride()}
    if module.weight_qtype.bits == 8:
        activation = module.activation_qtype
        restored = WeightQBytesTensor.load_from_state_dict(
            weight, "", activation_qtype=activation, missing_keys=missing, **common
        )
    else:
        group = module.weight_group_size
        restored = WeightQBitsTensor.load_from_state_dict(weight, "", group_size=group, missing_keys=missing, **common)
    module.weight = nn.Parameter(restored, requires_grad=False)
    if "bias" in tensors:
        module.bias = nn.Parameter(tensors["bias"], requires_grad=False)
    if "input_scale" in tensors:
        module.input_scale = tensors["input_scale"]


def _activation_type(activations: Activations | None) -> Any:
    if activations is None:
        return None
    return qint8 if activations.format is NumberFormat.INT else qfloat8_e4m3fn


def dequantized(weight: Tensor) -> Tensor:
    """The float weight of a Quanto tensor; packed codes are unpacked here, others by Quanto."""
    if not isinstance(weight, QTensor):
        return weight
    if not hasattr(weight, "_shift"):
        return weight.dequantize()
    packed: Any = weight._data
    codes = unpack(packed._data, packed.bits)[: packed.shape[0]]
    restored = weight._scale * codes - weight._shift
    return restored if weight.axis is None else ungroup(restored, axis=weight.axis, orig_shape=weight.shape)


def dequantized_rows(weight: Any, rows: Tensor) -> Tensor:
    """Some rows of `dequantized`, (n, columns), for (n,) indices; other rows are not unpacked."""
    if not hasattr(weight, "_shift"):
        restored: Tensor = weight._scale[rows] * weight._data[rows].to(weight._scale.dtype)
        return restored
    packed, columns = weight._data, weight.shape[1]
    groups = columns // packed.shape[1]
    own = (rows[:, None] * groups + torch.arange(groups, device=rows.device)).reshape(-1)
    bytes_of_slab = packed._data.shape[0]
    shifts = (own // bytes_of_slab * packed.bits).to(torch.uint8)
    codes = (packed._data[own % bytes_of_slab] >> shifts[:, None]) & (2**packed.bits - 1)
    return (weight._scale[own] * codes - weight._shift[own]).reshape(-1, columns)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Codes of `bits` bits from bytes: the lowest bits of all bytes come first. uint8 in, uint8 out.

    >>> unpack(torch.tensor([0x21, 0x43], dtype=torch.uint8), 4).tolist()
    [1, 3, 2, 4]
    """
    mask = 2**bits - 1
    return torch.cat([(packed >> shift) & mask for shift in range(0, 8, bits)])
