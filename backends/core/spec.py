"""The vocabulary of quantization: frozen values that name what is asked for, free of torch.

Every field of `QuantSpec` is a column of the results and a factor of the effects analysis, so a
field says one thing only and is spelled one way only. What a single library knows is no field but
an option of that library's adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from backends.core.errors import SpecError, did_you_mean

E = TypeVar("E", bound=StrEnum)


class Scheme(StrEnum):
    """When activations are quantized."""

    NONE = "none"
    """Nothing is quantized: the model as it is, or cast to another float."""
    WEIGHT_ONLY = "weight_only"
    """Weights alone; activations stay float."""
    DYNAMIC = "dynamic"
    """Activation scales are computed in every call."""
    STATIC = "static"
    """Activation ranges are fixed beforehand by calibration, per tensor."""


class NumberFormat(StrEnum):
    """How one number is coded."""

    INT = "int"
    FP8_E4M3 = "fp8_e4m3"
    NF4 = "nf4"
    FP4 = "fp4"
    NVFP4 = "nvfp4"
    """E2M1, with an E4M3 scale for every 16 weights of a row and a float32 scale for all."""
    MXFP4 = "mxfp4"
    """E2M1, with a power of two for every 32 weights of a row."""
    MXFP8 = "mxfp8"
    """E4M3, with a power of two for every 32 weights of a row."""
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"


FORMAT_BITS = {
    NumberFormat.FP8_E4M3: 8,
    NumberFormat.NF4: 4,
    NumberFormat.FP4: 4,
    NumberFormat.NVFP4: 4,
    NumberFormat.MXFP4: 4,
    NumberFormat.MXFP8: 8,
    NumberFormat.FP16: 16,
    NumberFormat.BF16: 16,
    NumberFormat.FP32: 32,
}
"""Bits of the formats that have just one width; `int` has those of `INTEGER_BITS`."""
INTEGER_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
BLOCK_SIZES = {NumberFormat.NVFP4: 16, NumberFormat.MXFP4: 32, NumberFormat.MXFP8: 32}
"""So many weights of a row share a scale, in the formats that fix it: block floating point."""


class ModuleKind(StrEnum):
    """The parts of a network that can be quantized."""

    LINEAR = "linear"
    """Every `nn.Linear` but the head."""
    HEAD = "head"
    """The output projection (Whisper's and Moonshine's `proj_out`), which is often tied to the embedding."""
    EMBEDDING = "embedding"
    """The token embedding."""
    CONV = "conv"
    """Every `nn.Conv1d`."""


class Part(StrEnum):
    """The halves of an encoder-decoder model; a model without a decoder is all encoder."""

    ENCODER = "encoder"
    DECODER = "decoder"


LINEAR = frozenset({ModuleKind.LINEAR})
"""The default set of modules; it leaves a tied head tied."""
ENCODER_AND_DECODER = frozenset(Part)


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole weight."""

    def __str__(self) -> str:
        return "per_tensor"


@dataclass(frozen=True)
class PerChannel:
    """One scale for every row, that is, for every output channel."""

    def __str__(self) -> str:
        return "per_channel"


@dataclass(frozen=True)
class PerGroup:
    """One scale for every `group_size` consecutive inputs within a row."""

    group_size: int

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise SpecError(f"group_size is {self.group_size}; it must be a positive integer such as 64")

    def __str__(self) -> str:
        return f"per_group:{self.group_size}"


Granularity = PerTensor | PerChannel | PerGroup


def parse_granularity(text: str | Granularity) -> Granularity:
    """Return the granularity that `text` names: `per_tensor`, `per_channel` or `per_group:SIZE`.

    >>> parse_granularity("per_group:64")
    PerGroup(group_size=64)

    Raises:
        SpecError: for anything else.
    """
    if isinstance(text, Granularity):
        return text
    if not isinstance(text, str):
        raise SpecError(f"granularity {text!r} is not one of per_tensor, per_channel, per_group:SIZE")
    if text == "per_tensor":
        return PerTensor()
    if text == "per_channel":
        return PerChannel()
    if match := re.fullmatch(r"per_group:([1-9]\d*)", text):
        return PerGroup(int(match[1]))
    raise SpecError(f"granularity {text!r} is not one of per_tensor, per_channel, per_group:SIZE")


@dataclass(frozen=True)
class Activations:
    """How activations are coded.

    Attributes:
        bits: of one activation, 1 to 8, or 16.
        format: `int` or `fp8_e4m3`.
        granularity: `per_tensor` or `per_token` (one scale for every row of the flattened input).
        symmetric: whether zero is coded as zero; `None` takes the adapter's default.
    """

    bits: int = 8
    format: NumberFormat = NumberFormat.INT
    granularity: str = "per_tensor"
    symmetric: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", _member(NumberFormat, self.format, "activations.format"))
        _check_bits(self.bits, self.format, "activations.bits")
        if self.granularity not in ("per_tensor", "per_token"):
            raise SpecError(f"activations.granularity {self.granularity!r} is not one of per_tensor, per_token")

    def __str__(self) -> str:
        sign = {None: "", True: ":symmetric", False: ":asymmetric"}[self.symmetric]
        width = str(self.bits) if self.format is NumberFormat.INT else ""
        return f"{self.format}{width}:{self.granularity}{sign}"


@dataclass(frozen=True)
class WeightCode:
    """How the weights of one module are coded: what was asked of it, or what it got."""

    bits: int
    format: NumberFormat
    granularity: Granularity
    symmetric: bool | None = None

    def __str__(self) -> str:
        width = str(self.bits) if self.format is NumberFormat.INT else ""
        sign = {None: "", True: " symmetric", False: " asymmetric"}[self.symmetric]
        return f"{self.format}{width} {self.granularity}{sign}"


@dataclass(frozen=True)
class QuantSpec:
    """One complete request for a quantization; see `resolve` of a backend for how blanks are filled.

    Attributes:
        scheme: when activations are quantized.
        granularity: of the weights' scales.
        bits: of one weight code, 1 to 8 or 16 for `int`; the format's own width otherwise. `None` means that
            the method allots bits to layers itself.
        format: of a weight code.
        symmetric: whether the weight code of zero is zero without a zero point; `None` takes the default.
        activations: how activations are coded, `None` where they stay float.
        method: how codes and scales are chosen, such as `rtn` or `hqq`; `None` takes the default.
        modules: which kinds of modules are quantized.
        parts: which halves of the model are quantized.
        outputs: whether what a quantized layer gives is rounded to a code too, as its input is, with a range fixed by
            calibration; `None` takes the default.
    """

    scheme: Scheme
    granularity: Granularity
    bits: int | None
    format: NumberFormat = NumberFormat.INT
    symmetric: bool | None = None
    activations: Activations | None = None
    method: str | None = None
    modules: frozenset[ModuleKind] = field(default=LINEAR)
    parts: frozenset[Part] = field(default=ENCODER_AND_DECODER)
    outputs: bool | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "scheme", _member(Scheme, self.scheme, "scheme"))
        put(self, "granularity", parse_granularity(self.granularity))
        put(self, "format", _member(NumberFormat, self.format, "format"))
        put(self, "modules", _members(ModuleKind, self.modules, "modules"))
        put(self, "parts", _members(Part, self.parts, "parts"))
        if isinstance(self.activations, Mapping):
            put(self, "activations", Activations(**self.activations))
        if self.bits is not None:
            _check_bits(self.bits, self.format, "bits")
        if self.activations is not None and self.scheme in (Scheme.NONE, Scheme.WEIGHT_ONLY):
            raise SpecError(
                f"scheme {self.scheme} leaves activations float: remove activations, or choose another scheme"
            )
        if not isinstance(self.outputs, bool | None):
            raise SpecError(f"outputs is {self.outputs!r}; it is true or false")
        if self.outputs and self.scheme is not Scheme.STATIC:
            raise SpecError(f"outputs = true needs fixed ranges, but the scheme is {self.scheme}: choose scheme static")

    @property
    def weight_code(self) -> WeightCode | None:
        """What is asked of every chosen module; `None` where the method allots bits itself."""
        if self.bits is None:
            return None
        return WeightCode(self.bits, self.format, self.granularity, self.symmetric)


def _member(kind: type[E], value: str, key: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise SpecError(f"{key} {value!r} is not one of {', '.join(kind)}{did_you_mean(value, kind)}") from None


def _members(kind: type[E], values: Iterable[str], key: str) -> frozenset[E]:
    chosen = frozenset(_member(kind, value, key) for value in ([values] if isinstance(values, str) else values))
    if not chosen:
        raise SpecError(f"{key} is empty; choose among {', '.join(kind)}")
    return chosen


def _check_bits(bits: int, number_format: NumberFormat, key: str) -> None:
    expected = FORMAT_BITS.get(number_format)
    if not isinstance(bits, int) or isinstance(bits, bool):
        raise SpecError(f"{key} is {bits!r}; it is a whole number")
    if expected is not None and bits != expected:
        raise SpecError(f"{key} is {bits}, but the format {number_format} has {expected}")
    if expected is None and bits not in INTEGER_BITS:
        raise SpecError(f"{key} is {bits}; integers have 1 to 8, or 16")


def block_refused(spec: QuantSpec) -> str | None:
    """Why a resolved spec contradicts its block format, `None` where it does not, or has another format."""
    if spec.format not in BLOCK_SIZES:
        return None
    size, bits = BLOCK_SIZES[spec.format], FORMAT_BITS[spec.format]
    if spec.bits is None:
        return f"{spec.format} has {bits} bits in every layer: set bits = {bits}"
    if spec.granularity != PerGroup(size):
        return f"{spec.format} has one scale for {size} weights: use per_group:{size}"
    return None if spec.symmetric else f"{spec.format} has no zero points: leave symmetric out"


def completed(spec: QuantSpec, *, symmetric: bool, activations: Activations | None, method: str = "rtn") -> QuantSpec:
    """`spec` with an adapter's defaults where it leaves something open.

    Args:
        symmetric: of weight codes.
        activations: of the scheme; `None` where the adapter has none for it, and what is asked stays as it is.
        method: how codes are chosen.
    """
    chosen = spec.activations or activations
    if chosen is not None and activations is not None and chosen.symmetric is None:
        chosen = replace(chosen, symmetric=activations.symmetric)
    weights = symmetric if spec.symmetric is None else spec.symmetric
    return replace(spec, symmetric=weights, activations=chosen, method=spec.method or method)


FULL_PRECISION = QuantSpec(Scheme.NONE, PerTensor(), 32, NumberFormat.FP32, method="none", outputs=False)
"""The baseline: the model in the precision in which it was loaded, fp32 unless the experiment says otherwise."""
