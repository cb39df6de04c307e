"""ggml's types of tensors: their numbers in a file, and what code of ours each is. Free of torch and of the library."""

from __future__ import annotations

from dataclasses import dataclass

from backends.core.codes import Activations, NumberFormat, PerGroup
from backends.core.spec import QuantSpec, Scheme


@dataclass(frozen=True)
class TensorType:
    """A type of ggml.

    Attributes:
        name: ggml's own.
        number: of a tensor in a file and in calls.
        file_number: of a file whose matrices all have it.
        format, bits, group, symmetric: of a code, `group` weights of a row sharing a scale; of a float 0 and true.
        row: what the length of a row is a multiple of.
        rounded_inputs: so many inputs of a row share a scale of 8-bit codes in a product; 0 for float inputs.
        method: how ggml chooses codes without an importance matrix: by the largest weight of a group alone (`rtn`),
            or by a search among scales of its own (`ggml`).
        weighted: whether an importance matrix changes the codes.
    """

    name: str
    number: int
    file_number: int
    format: NumberFormat
    bits: int
    group: int = 0
    symmetric: bool = True
    row: int = 1
    rounded_inputs: int = 0
    method: str = "rtn"
    weighted: bool = True

    @property
    def activations(self) -> Activations | None:
        """How inputs are coded in a product."""
        if not self.rounded_inputs:
            return None
        return Activations(8, NumberFormat.INT, f"per_group:{self.rounded_inputs}", True)


def _plain(name: str, number: int, file_number: int, bits: int, symmetric: bool) -> TensorType:
    return TensorType(name, number, file_number, NumberFormat.INT, bits, 32, symmetric, 32, 32, weighted=bits != 8)


def _nested(name: str, number: int, number_format: NumberFormat, bits: int, group: int, symmetric: bool) -> TensorType:
    return TensorType(name, number, number, number_format, bits, group, symmetric, 256, 256, "ggml")


F32 = TensorType("f32", 0, 0, NumberFormat.FP32, 32)
F16 = TensorType("f16", 1, 1, NumberFormat.FP16, 16)
QUANTIZED = (
    _plain("q8_0", 8, 7, 8, True),
    _plain("q5_0", 6, 8, 5, True),
    _plain("q5_1", 7, 9, 5, False),
    _plain("q4_0", 2, 2, 4, True),
    _plain("q4_1", 3, 3, 4, False),
    TensorType("iq4_nl", 20, 19, NumberFormat.IQ4_NL, 4, 32, True, 32, 32, "ggml"),
    _nested("q6_K", 14, NumberFormat.Q6_K, 6, 16, True),
    _nested("q5_K", 13, NumberFormat.Q5_K, 5, 32, False),
    _nested("q4_K", 12, NumberFormat.Q4_K, 4, 32, False),
    _nested("q3_K", 11, NumberFormat.Q3_K, 3, 16, True),
    _nested("q2_K", 10, NumberFormat.Q2_K, 2, 16, False),
)
"""Scales of the K types are codes themselves, which share a scale in a block of 256 weights."""
IMATRIX = "imatrix"
"""The method by which codes are chosen with an importance matrix."""


def type_of(spec: QuantSpec) -> TensorType | None:
    """The type that has the code of a spec, whatever its granularity and method; `None` where there is none."""
    if spec.scheme is Scheme.NONE:
        return F16 if spec.format is F16.format else None
    return next((one for one in QUANTIZED if _code(one) == (spec.format, spec.bits, bool(spec.symmetric))), None)


def symmetric_of(spec: QuantSpec) -> bool:
    """Whether a code without a word on it has no zero points: as its format says, and of integers, yes."""
    return next((one.symmetric for one in QUANTIZED if one.format is spec.format), True)


def granularity_of(kind: TensorType) -> PerGroup:
    """Of a quantized type."""
    return PerGroup(kind.group)


def _code(kind: TensorType) -> tuple[NumberFormat, int, bool]:
    return kind.format, kind.bits, kind.symmetric
