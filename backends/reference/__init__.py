"""A slow, plain fake quantizer: the oracle that the other adapters are tested against.

Weights are rounded and kept as floats, activations are rounded in every call, so nothing gets
smaller and no latency may be claimed. The rounding functions are public to the tests and written
for reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.core.base import Capability, Supported, Unsupported
from backends.core.codes import (
    BLOCK_SIZES,
    Activations,
    Granularity,
    NumberFormat,
    PerGroup,
    PerTensor,
    WeightCode,
)
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate
from backends.core.spec import (
    ModuleKind,
    QuantSpec,
    Scheme,
    block_refused,
    completed,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

FP8_E4M3_LARGEST = 448.0
E2M1, E4M3 = (1, 0, 6.0), (3, -6, FP8_E4M3_LARGEST)
"""Small floats: bits of mantissa, smallest exponent, largest magnitude."""
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The quantiles of a normal distribution (Dettmers et al. 2023, arXiv 2305.14314, appendix E)."""
FP4 = (0.0, 0.0052083333, 0.16666667, 0.25, 0.33333333, 0.5, 0.66666667, 1.0)
"""Magnitudes of bitsandbytes' fp4 (one sign, two exponent, one mantissa bit), relative to the largest."""
_FORMATS = (NumberFormat.INT, NumberFormat.FP8_E4M3, NumberFormat.NF4, NumberFormat.FP4, *BLOCK_SIZES)


@dataclass(frozen=True)
class ReferenceOptions:
    """How libraries differ in rounding the same thing.

    Attributes:
        full_range: symmetric scale is absmax / (2^b - 1) * 2, using the most negative code too, as torch.ao
            does; otherwise absmax / (2^(b-1) - 1).
        float_zero_point: an asymmetric zero point is not rounded, as in Quanto and HQQ.
    """

    full_range: bool = False
    float_zero_point: bool = False


def fake_quantize(weight: Tensor, code: WeightCode, options: ReferenceOptions = ReferenceOptions()) -> Tensor:
    """Return `weight` rounded to `code`, as floats of the same shape; the argument is not changed.

    Integers: q = clamp(round(w / s) + z), w' = (q - z) s, with s and z from the minimum and maximum of
    each slice (Jacob et al. 2018, arXiv 1712.05877, eq. 1). Tables (nf4, fp4): nearest entry of the table
    times the slice's largest magnitude. fp8_e4m3: the cast of w / s with s = absmax / 448. Block formats: small floats
    times a scale that is itself rounded to a byte (the sources stand in `backends/ptq/_block_floats.py`).
    """
    rows = slices(weight, code.granularity)
    if code.format is NumberFormat.INT:
        rounded = (
            _round_symmetric(rows, code.bits, options) if code.symmetric else _round_affine(rows, code.bits, options)
        )
    elif code.format is NumberFormat.FP8_E4M3:
        rounded = _round_fp8(rows)
    elif code.format in BLOCK_SIZES:
        rounded = _round_blocks(rows.float(), code.format).to(rows.dtype)
    else:
        rounded = _round_to_table(rows, code.format)
    return rounded.reshape(weight.shape)


def slices(weight: Tensor, granularity: Granularity) -> Tensor:
    """View `weight` as a matrix with one row for every scale."""
    if isinstance(granularity, PerTensor):
        return weight.reshape(1, -1)
    if isinstance(granularity, PerGroup):
        return weight.reshape(-1, granularity.group_size)
    return weight.reshape(weight.shape[0], -1)


def _round_symmetric(rows: Tensor, bits: int, options: ReferenceOptions) -> Tensor:
    largest = 2 ** (bits - 1) - 1
    divisor = (2**bits - 1) / 2 if options.full_range else largest
    scale = (rows.abs().amax(1, keepdim=True) / divisor).clamp(min=1e-12)
    return (rows / scale).round().clamp(-largest - 1, largest) * scale


def _round_affine(rows: Tensor, bits: int, options: ReferenceOptions) -> Tensor:
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    zero_point = -low / scale if options.float_zero_point else (-low / scale).round()
    return ((rows / scale + zero_point).round().clamp(0, 2**bits - 1) - zero_point) * scale


def _round_fp8(rows: Tensor) -> Tensor:
    import torch

    scale = rows.abs().amax(1, keepdim=True) / FP8_E4M3_LARGEST
    return (rows / scale.clamp(min=1e-12)).to(torch.float8_e4m3fn).to(rows.dtype) * scale


def _round_blocks(rows: Tensor, number_format: NumberFormat) -> Tensor:
    element = E4M3 if number_format is NumberFormat.MXFP8 else E2M1
    largest = rows.abs().amax(1, keepdim=True).clamp(min=1e-12)
    if number_format is NumberFormat.NVFP4:
        whole = largest.amax() / (E4M3[2] * E2M1[2])
        scale = _round_float((largest / E2M1[2] / whole).clamp(min=2.0 ** E4M3[1]), *E4M3) * whole
    else:
        scale = 2.0 ** (_exponent(largest) - math.floor(math.log2(element[2])))
    return _round_float(rows / scale, *element) * scale


def _round_float(values: Tensor, mantissa: int, smallest: int, largest: float) -> Tensor:
    """The nearest floats of so few bits, ties to even: in steps that depend on the exponent."""
    step = 2.0 ** (_exponent(values).clamp(min=smallest) - mantissa)
    return ((values / step).round() * step).clamp(-largest, largest)


def _exponent(values: Tensor) -> Tensor:
    """floor(log2 |v|), exactly."""
    import torch

    return torch.frexp(values).exponent - 1


def _round_to_table(rows: Tensor, number_format: NumberFormat) -> Tensor:
    import torch

    table = NF4 if number_format is NumberFormat.NF4 else tuple(sorted({s * v for v in FP4 for s in (1, -1)}))
    values = torch.tensor(table, dtype=rows.dtype, device=rows.device)
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12)
    middles = (values[1:] + values[:-1]) / 2
    return values[torch.bucketize(rows / scale, middles)] * scale


class Reference(LayerwiseBackend):
    """The oracle as an adapter."""

    name = "reference"
    packages = ("torch",)
    options = ReferenceOptions
    kinds = frozenset(ModuleKind)
    codes_outputs = True

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric weights of 2 bits and more, asymmetric 8-bit activations per tensor."""
        rounded = spec.scheme in (Scheme.DYNAMIC, Scheme.STATIC)
        activations = Activations(symmetric=False) if rounded else None
        return completed(spec, symmetric=spec.bits != 1, activations=activations)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Round-to-nearest in every scheme, granularity and format but the plain casts."""
        if spec.scheme is Scheme.NONE:
            return Unsupported("the reference quantizes: use the backend none or cast for scheme none")
        if spec.method != "rtn" or spec.bits is None:
            return Unsupported("the reference rounds to nearest: use method rtn and a number of bits")
        if (reason := block_refused(spec)) is not None:
            return Unsupported(reason)
        if spec.format in (NumberFormat.FP16, NumberFormat.BF16, NumberFormat.FP32):
            return Unsupported("the reference does not cast: use the backend cast for fp16 and bf16")
        if spec.format not in _FORMATS:
            return Unsupported(f"the reference has the formats {', '.join(_FORMATS)}")
        if spec.bits == 1 and spec.symmetric:
            return Unsupported("one bit cannot be symmetric around zero: set symmetric = false")
        if spec.activations and spec.activations.format is not NumberFormat.INT:
            return Unsupported("the reference rounds activations to integers only")
        if spec.scheme is Scheme.STATIC and spec.activations and spec.activations.granularity != "per_tensor":
            return Unsupported("static activation ranges are per tensor")
        return Supported(simulated=True, note="weights are kept as floats: nothing gets smaller")

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """A copy of the module with rounded weights that rounds its input and output, if the spec says so."""
        from backends.reference._modules import FakeQuantized

        code = spec.weight_code
        assert code is not None, "capability refuses bits = None"
        weight = fake_quantize(candidate.weight, code, options)
        return FakeQuantized(candidate.module, weight, spec)

    def freeze(self, module: nn.Module) -> nn.Module:
        """Stop observing."""
        module.observing = False  # type: ignore[assignment]
        return module

    def dequantize(self, module: nn.Module) -> Tensor:
        """The rounded weight."""
        return module.module.weight  # type: ignore[union-attr, return-value]

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Of the rounded weight."""
        return self.dequantize(module)[tokens]

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Rounded weight, bias, and the observed ranges of input and output."""
        inner: Any = module.module
        tensors = {"weight": inner.weight.detach()}
        if getattr(inner, "bias", None) is not None:
            tensors["bias"] = inner.bias.detach()
        ranges: Any = {"input_scale": module.input_range, "output_scale": module.output_range}
        return tensors | {name: seen for name, seen in ranges.items() if seen is not None}

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        from torch import nn

        from backends.reference._modules import FakeQuantized

        restored = FakeQuantized(module, tensors["weight"], spec)
        if "bias" in tensors:
            restored.module.bias = nn.Parameter(tensors["bias"], requires_grad=False)  # type: ignore[assignment]
        restored.input_range, restored.output_range = tensors.get("input_scale"), tensors.get("output_scale")
        restored.observing = False
        return restored

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """What was asked, kept as floats."""
        code, _ = super().effective(module, spec, options)
        return code, "simulated: stored as floats"


BACKEND = Reference()
