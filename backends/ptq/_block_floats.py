"""Codes of a weight matrix in block floating point: small floats, and a scale of one byte for every block of a row.

- MXFP4 and MXFP8: OCP Microscaling Formats (MX) Specification v1.0, section 6.3. Elements are E2M1 or E4M3, and a block
  has the scale 2^(floor(log2 max|w|) - emax) in E8M0, a byte's power of two; emax is the largest element's exponent.
- NVFP4: NVIDIA 2025, "Pretraining Large Language Models with NVFP4", arXiv 2509.25149, appendix C. Elements are E2M1,
  the matrix has a scale t = max|W| / (6 * 448) in float32, and a block the scale max|w| / (6 t) in E4M3.

Elements are rounded to the nearest, ties to the even code; what is beyond the largest becomes the largest. The code of
an element is its bits: the sign, then its exponent and mantissa.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from backends.core.codes import BLOCK_SIZES, NumberFormat

_SMALLEST_BLOCK_SCALE = 2.0**-6
"""Of NVFP4, the smallest normal E4M3, as in torchao: below it, a scale would have less than three bits of mantissa."""
_SMALLEST_TENSOR_SCALE = 2.0**-100
"""Its reciprocal over a block's scale is a float32 still."""


@dataclass(frozen=True)
class Minifloat:
    """A float of few bits, without infinities.

    Attributes:
        exponent, mantissa: bits of each; the bias of the exponent is 2^(exponent - 1) - 1.
        count: of magnitudes that are numbers, zero included.
    """

    exponent: int
    mantissa: int
    count: int

    @property
    def sign(self) -> int:
        """The code of minus zero."""
        return 2 ** (self.exponent + self.mantissa)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(magnitudes(self)[-1])


E2M1 = Minifloat(2, 1, 8)
E4M3 = Minifloat(4, 3, 127)


@cache
def magnitudes(element: Minifloat) -> Tensor:
    """What the codes without a sign stand for, (count,) of float32, ascending.

    >>> magnitudes(E2M1)
    tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000, 3.0000, 4.0000, 6.0000])
    """
    code, hidden = torch.arange(element.count), 2**element.mantissa
    exponent, fraction = code // hidden, code % hidden
    significand = fraction + hidden * (exponent > 0)
    return significand * 2.0 ** (exponent.clamp(min=1) - 2 ** (element.exponent - 1) + 1 - element.mantissa)


@cache
def _borders(element: Minifloat) -> Tensor:
    """Above which a magnitude has the next code, (count - 1,): the middles, themselves above it where that is even."""
    known = magnitudes(element)
    middles = (known[1:] + known[:-1]) / 2
    middles[1::2] = middles[1::2].nextafter(torch.zeros(1))
    return middles


@cache
def _values(element: Minifloat) -> Tensor:
    """What the codes stand for, (2 sign,) of float32; NaN where that is no number."""
    known = torch.full((2, element.sign), torch.nan)
    known[:, : element.count] = torch.stack([magnitudes(element), -magnitudes(element)])
    return known.reshape(-1)


def nearest(values: Tensor, element: Minifloat) -> Tensor:
    """The nearest codes, of the same shape; whole numbers.

    >>> nearest(torch.tensor([0.3, 0.75, -1.25, 99.0]), E2M1)
    tensor([ 1,  2, 10,  7])
    """
    codes = torch.bucketize(values.abs().contiguous(), _borders(element).to(values.device))
    return codes + element.sign * values.signbit()


@dataclass(frozen=True)
class BlockFormat:
    """How a format codes a block.

    Attributes:
        element: of every weight.
        scale: what the byte of a block's scale is.
        shares: of a block's largest magnitude, from which a searched scale is chosen. More than 1 puts the largest
            weights where steps are finer (for NVFP4: Cook et al. 2025, "Four Over Six", arXiv 2512.02010).
    """

    element: Minifloat
    scale: torch.dtype
    shares: tuple[float, ...]


_POWERS = (2.0, 1.0, 0.5, 0.25)
FORMATS = {
    NumberFormat.NVFP4: BlockFormat(E2M1, torch.float8_e4m3fn, tuple(n / 20 for n in range(30, 3, -1))),
    NumberFormat.MXFP4: BlockFormat(E2M1, torch.float8_e8m0fnu, _POWERS),
    NumberFormat.MXFP8: BlockFormat(E4M3, torch.float8_e8m0fnu, _POWERS),
}


@dataclass(frozen=True)
class FloatGrid:
    """The numbers that a weight in a block format can take; see `backends.ptq._codes.Grid`.

    Attributes:
        format: one of `FORMATS`.
        scale: of the blocks, (rows, blocks) of uint8: the bits of E4M3 or E8M0.
        tensor_scale: of the matrix, () of float32; `None` where the format has none.
    """

    format: NumberFormat
    scale: Tensor
    tensor_scale: Tensor | None

    def codes(self, weight: Tensor) -> Tensor:
        """The nearest codes of `weight`, (rows, columns), as floats.

        Weights are multiplied by the reciprocal of their scale, as torchao does, so that ties fall as they do there.
        """
        block, whole = self._scales()
        scaled = self._blocks(weight) * ((1 / whole) / block)
        return nearest(scaled, self._own.element).float().reshape(weight.shape)

    def values(self, codes: Tensor) -> Tensor:
        """The weights that codes of the same shape stand for, in float32."""
        known = _values(self._own.element).to(codes.device)
        elements = known.index_select(0, codes.reshape(-1).int()).reshape(codes.shape)
        block, whole = self._scales()
        return (self._blocks(elements) * (whole * block)).reshape(codes.shape)

    def rounded(self, weight: Tensor) -> Tensor:
        """`weight` at its nearest values."""
        return self.values(self.codes(weight))

    def of_rows(self, index: Tensor) -> FloatGrid:
        """The grid of some rows, (n,)."""
        return replace(self, scale=self.scale[index])

    def column(self, index: int, columns: int) -> FloatGrid:
        """The grid of one column, a (rows, 1) matrix."""
        block = index * self.scale.shape[1] // columns
        return replace(self, scale=self.scale[:, block : block + 1])

    def where(self, chosen: Tensor, other: FloatGrid) -> FloatGrid:
        """This grid in the blocks where `chosen`, (rows, blocks) of bool, is true, and `other` elsewhere."""
        return replace(self, scale=torch.where(chosen, self.scale, other.scale))

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        whole = {} if self.tensor_scale is None else {"tensor_scale": self.tensor_scale}
        return {"grid_scale": self.scale, **whole}

    @classmethod
    def restored(cls, number_format: NumberFormat, tensors: Mapping[str, Tensor]) -> FloatGrid:
        """The inverse of `tensors`."""
        return cls(number_format, tensors["grid_scale"], tensors.get("tensor_scale"))

    @property
    def _own(self) -> BlockFormat:
        return FORMATS[self.format]

    def _blocks(self, matrix: Tensor) -> Tensor:
        """A (rows, columns) matrix as (rows, blocks, elements of a block)."""
        return matrix.reshape(*self.scale.shape, -1)

    def _scales(self) -> tuple[Tensor, Tensor | float]:
        """Of the blocks, (rows, blocks, 1) of float32, and of the matrix."""
        block = self.scale.contiguous().view(self._own.scale).float()[..., None]
        return block, 1.0 if self.tensor_scale is None else self.tensor_scale


def float_grid(weight: Tensor, number_format: NumberFormat, share: float = 1.0) -> FloatGrid:
    """The grid from the largest magnitude of every block of `weight`, (rows, columns) of float32, or a share of it."""
    largest = weight.reshape(len(weight), -1, BLOCK_SIZES[number_format]).abs().amax(2)
    element = FORMATS[number_format].element
    if number_format is not NumberFormat.NVFP4:
        return FloatGrid(number_format, _power(largest * share, element), None)
    whole = (largest.amax() / (E4M3.largest * element.largest)).clamp(min=_SMALLEST_TENSOR_SCALE)
    scale = (share * largest / element.largest / whole).clamp(min=_SMALLEST_BLOCK_SCALE)
    return FloatGrid(number_format, nearest(scale, E4M3).to(torch.uint8), whole)


def _power(largest: Tensor, element: Minifloat) -> Tensor:
    """The E8M0 scale, its smallest for a block of zeros: a float32's exponent, biased as E8M0 is, is floor(log2)."""
    exponent = largest.view(torch.int32) >> 23
    return (exponent - int(math.log2(element.largest))).clamp(min=0).to(torch.uint8)
