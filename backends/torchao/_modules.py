"""torchao's quantized weights in linear layers: made, watched for calibration, taken apart and put together again."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from backends.core import codes
from backends.core import spec as vocabulary
from backends.core.errors import UnsupportedError
from backends.core.observing import counted
from backends.core.quiet import hush_torchao

hush_torchao()

from torchao.prototype.smoothquant import SmoothQuantConfig
from torchao.prototype.smoothquant.core import SmoothQuantObservedLinear, SmoothQuantObserver
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8StaticActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    PerAxis,
    PerGroup,
    PerRow,
    PerTensor,
    quantize_,
)
from torchao.quantization.quantize_.workflows import Int8Tensor

L = TypeVar("L", bound=nn.Linear)
PACKED = {
    "qdata": "codes",
    "scale": "scale",
    "zero_point": "zero_point",
    "act_quant_scale": "input_scale",
    "act_quant_zero_point": "input_zero_point",
    "act_pre_scale": "input_channels",
}
"""torchao's names of the tensors inside a quantized weight, and ours."""


class FlatLinear(nn.Linear):
    """A linear layer that hands its input on as a matrix: torchao's static scales fit one number of dimensions only."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        outputs = nn.functional.linear(inputs.reshape(-1, self.in_features), self.weight, self.bias)
        return outputs.reshape(*inputs.shape[:-1], self.out_features)


class ObservedLinear(nn.Linear):
    """A float linear layer that remembers the smallest and largest input of every channel, padding left out.

    torchao's observers keep every input, and join them only where all have one length; absolute maxima of channels
    and the range of the whole, also after smoothing, are the same from these two rows.
    """

    request: tuple[vocabulary.QuantSpec, float]
    """How it is to be quantized, and SmoothQuant's alpha."""
    seen: Tensor
    """(2, in): minima and maxima."""

    def forward(self, inputs: Tensor) -> Tensor:
        """As the float layer."""
        some = counted(inputs).reshape(-1, self.in_features)
        found = torch.stack([some.amin(0), some.amax(0)])
        before = vars(self).get("seen", found)
        self.seen = torch.stack([before[0].minimum(found[0]), before[1].maximum(found[1])])
        return nn.functional.linear(inputs, self.weight, self.bias)


def with_weight(kind: type[L], weight: Tensor, bias: Tensor | None) -> L:
    """A linear layer of `kind` that holds these very tensors; no memory is filled for others."""
    made = kind(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = _parameter(weight)
    if bias is not None:
        made.bias = _parameter(bias)
    return made.eval()


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)


def quantized(module: Any, spec: vocabulary.QuantSpec, alpha: float) -> FlatLinear:
    """The quantized layer of a float layer, or of one that has seen calibration inputs; neither is changed."""
    config = configuration(spec)
    if spec.method == "smoothquant":
        return _smoothed(module, config, alpha)
    if spec.scheme is vocabulary.Scheme.STATIC:
        inputs = Int8Tensor.from_hp(
            module.seen, PerTensor(), mapping_type=config.act_mapping_type, reduce_range=config.reduce_range
        )
        config = configuration(spec, inputs.scale, inputs.zero_point)
    return with_weight(FlatLinear, _weight(module.weight, config), module.bias)


def _smoothed(module: Any, config: Any, alpha: float) -> FlatLinear:
    observer = SmoothQuantObserver(module.weight, alpha)
    observer(module.seen)
    holder: Any = nn.Sequential(SmoothQuantObservedLinear.from_float(module, observer))
    quantize_(holder, SmoothQuantConfig(config, "convert", alpha))
    return with_weight(FlatLinear, holder[0].weight, module.bias)


def _weight(weight: Tensor, config: Any) -> Tensor:
    """torchao's tensor of codes of a float weight."""
    holder: Any = nn.Sequential(with_weight(nn.Linear, weight.detach(), None))
    quantize_(holder, config)
    codes: Tensor = holder[0].weight
    return codes


def configuration(
    spec: vocabulary.QuantSpec, input_scale: Tensor | None = None, input_zero: Tensor | None = None
) -> Any:
    """torchao's configuration of a resolved spec; it must not set up torch's compiler for the whole process."""
    if spec.scheme is vocabulary.Scheme.WEIGHT_ONLY:
        return _of_weights(spec)
    activations = spec.activations
    assert activations is not None, "resolve fills activations in"
    own: dict[str, Any] = {
        "granularity": [PerRow() if activations.granularity == "per_token" else PerTensor(), _granularity(spec)],
        "act_mapping_type": _mapping(activations.symmetric),
        "set_inductor_config": False,
        "reduce_range": spec.bits == 7,
    }
    if spec.scheme is vocabulary.Scheme.DYNAMIC:
        return Int8DynamicActivationInt8WeightConfig(**own)
    return Int8StaticActivationInt8WeightConfig(input_scale, input_zero, **own)


def _of_weights(spec: vocabulary.QuantSpec) -> Any:
    if spec.format is codes.NumberFormat.FP8_E4M3:
        return Float8WeightOnlyConfig(granularity=_granularity(spec), set_inductor_config=False)
    if spec.bits == 8 and spec.symmetric:
        return Int8WeightOnlyConfig(granularity=_granularity(spec), set_inductor_config=False)
    granularity = _granularity(spec) if isinstance(spec.granularity, codes.PerGroup) else PerAxis(0)
    dtype = getattr(torch, f"int{spec.bits}")
    return IntxWeightOnlyConfig(weight_dtype=dtype, granularity=granularity, mapping_type=_mapping(spec.symmetric))


def _granularity(spec: vocabulary.QuantSpec) -> Any:
    if isinstance(spec.granularity, codes.PerGroup):
        return PerGroup(spec.granularity.group_size)
    return PerTensor() if isinstance(spec.granularity, codes.PerTensor) else PerRow()


def _mapping(symmetric: bool | None) -> MappingType:
    return MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC


def dequantized(weight: Any) -> Tensor:
    """The float weight as it acts on the layer's own input: smoothing undone."""
    restored: Tensor = weight.dequantize()
    smoothing = getattr(weight, "act_pre_scale", None)
    return restored if smoothing is None else restored * smoothing


def dequantized_rows(weight: Any, rows: Tensor) -> Tensor:
    """Some rows of `dequantized`, (n, columns), for (n,) indices; other rows are not touched.

    What torchao computes, (code - zero point) scale, written out: it has no selection of rows for most of its weights.
    """
    parts = taken_apart(weight)
    codes = parts["codes"][rows].to(weight.dtype)
    height, columns = weight.shape

    def spread(scales: Tensor) -> Tensor:
        own = scales[rows] if scales.shape[0] == height else scales
        return own.repeat_interleave(columns // own.shape[1], dim=1)

    if "zero_point" in parts:
        codes = codes - spread(parts["zero_point"]).to(codes.dtype)
    restored = codes * spread(parts["scale"])
    smoothing = getattr(weight, "act_pre_scale", None)
    return restored if smoothing is None else restored * smoothing


def taken_apart(weight: Any) -> dict[str, Tensor]:
    """The tensors inside a quantized weight, and an empty one that has the dtype of the float weight."""
    names, _ = weight.__tensor_flatten__()
    return {PACKED[name]: getattr(weight, name) for name in names} | {"dtype": torch.empty(0, dtype=weight.dtype)}


def put_together(shape: torch.Size, tensors: dict[str, Tensor], spec: vocabulary.QuantSpec) -> Tensor:
    """The inverse of `taken_apart`: what is no tensor is as in any weight of this shape, quantized likewise."""
    config = configuration(spec, tensors.get("input_scale"), tensors.get("input_zero_point"))
    like: Any = _weight(torch.ones(shape, dtype=tensors["dtype"].dtype), config)
    _, attributes = like.__tensor_flatten__()
    inner = {name: tensors[packed] for name, packed in PACKED.items() if packed in tensors}
    restored: Tensor = type(like).__tensor_unflatten__(inner, attributes, shape, None)
    return restored


def refuse_saturating_products(spec: vocabulary.QuantSpec) -> None:
    """Raise `UnsupportedError` where this processor's integer products of such codes are wrong."""
    if spec.activations is not None and spec.bits == 8 and not products_are_exact():
        raise UnsupportedError(
            "torchao: sums of 8-bit products saturate on this processor, which has no VNNI instructions: use 7 bits"
        )


@cache
def products_are_exact() -> bool:
    """Whether torch multiplies the largest codes, signed and unsigned, as integers should."""
    codes = torch.tensor([127, -128], dtype=torch.int8).repeat_interleave(32)[:, None].expand(64, 64).contiguous()
    expected = codes.int() @ codes.int().t()
    unsigned = (codes.int() + 128).to(torch.uint8)
    as_unsigned = torch._int_mm(unsigned, codes.t()) - 128 * codes.int().sum(1)
    return torch.equal(torch._int_mm(codes, codes.t()), expected) and torch.equal(as_unsigned, expected)
