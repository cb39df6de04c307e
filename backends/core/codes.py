"""How one number is coded: formats, widths, what shares a scale, and the code of activations; free of torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from backends.core.errors import SpecError, did_you_mean

E = TypeVar("E", bound=StrEnum)


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
    IQ4_NL = "iq4_nl"
    """ggml's table of 16 values, with a float16 scale for every 32 weights of a row."""
    Q6_K = "q6_k"
    """ggml's integers whose scales, of 16 weights (32 in q4_k and q5_k), are codes in a block of 256."""
    Q5_K = "q5_k"
    Q4_K = "q4_k"
    Q3_K = "q3_k"
    Q2_K = "q2_k"
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
    NumberFormat.IQ4_NL: 4,
    NumberFormat.Q6_K: 6,
    NumberFormat.Q5_K: 5,
    NumberFormat.Q4_K: 4,
    NumberFormat.Q3_K: 3,
    NumberFormat.Q2_K: 2,
    NumberFormat.FP16: 16,
    NumberFormat.BF16: 16,
    NumberFormat.FP32: 32,
}
"""Bits of the formats that have just one width; `int` has those of `INTEGER_BITS`."""
INTEGER_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
BLOCK_SIZES = {NumberFormat.NVFP4: 16, NumberFormat.MXFP4: 32, NumberFormat.MXFP8: 32}
"""So many weights of a row share a scale, in the formats that fix it: block floating point."""


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
_GROUP = r"per_group:([1-9]\d*)"


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
    if match := re.fullmatch(_GROUP, text):
        return PerGroup(int(match[1]))
    raise SpecError(f"granularity {text!r} is not one of per_tensor, per_channel, per_group:SIZE")


@dataclass(frozen=True)
class Activations:
    """How activations are coded.

    Attributes:
        bits: of one activation, 1 to 8, or 16.
        format: `int` or `fp8_e4m3`.
        granularity: `per_tensor`, `per_token` (one scale for every row of the flattened input), or `per_group:SIZE`
            (one for every `SIZE` consecutive values within such a row).
        symmetric: whether zero is coded as zero; `None` takes the adapter's default.
    """

    bits: int = 8
    format: NumberFormat = NumberFormat.INT
    granularity: str = "per_tensor"
    symmetric: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", member(NumberFormat, self.format, "activations.format"))
        check_bits(self.bits, self.format, "activations.bits")
        if self.granularity not in ("per_tensor", "per_token") and not self.grouped:
            raise SpecError(
                f"activations.granularity {self.granularity!r} is not one of per_tensor, per_token, per_group:SIZE"
            )

    @property
    def grouped(self) -> bool:
        """Whether there are several scales within a token."""
        return re.fullmatch(_GROUP, self.granularity) is not None

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


def member(kind: type[E], value: str, key: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise SpecError(f"{key} {value!r} is not one of {', '.join(kind)}{did_you_mean(value, kind)}") from None


def check_bits(bits: int, number_format: NumberFormat, key: str) -> None:
    expected = FORMAT_BITS.get(number_format)
    if not isinstance(bits, int) or isinstance(bits, bool):
        raise SpecError(f"{key} is {bits!r}; it is a whole number")
    if expected is not None and bits != expected:
        raise SpecError(f"{key} is {bits}, but the format {number_format} has {expected}")
    if expected is None and bits not in INTEGER_BITS:
        raise SpecError(f"{key} is {bits}; integers have 1 to 8, or 16")
