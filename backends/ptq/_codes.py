"""Codes of a weight matrix, and the numbers that they stand for: the grid.

Integers have a scale, and a zero point unless symmetric, for every group of a row: a weight is w = (q - z) s, with q
in [0, 2^b). Symmetric codes have the fixed zero point 2^(b-1). Scales are kept in 16 bits and rounded to them before
any code is chosen, so that what was optimised is what is stored. Block floats stand in `_block_floats.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from backends.core.codes import PerGroup, PerTensor, WeightCode
from backends.ptq._block_floats import FORMATS, FloatGrid, float_grid
from backends.ptq._packing import pack, unpack
from backends.ptq._second_level import SecondLevel, second_level

_SMALLEST = 1e-7
"""Of a scale: nothing finer survives in 16 bits."""


class Grid(Protocol):
    """The numbers that a weight can take; their codes are whole numbers in [0, 2^bits)."""

    def codes(self, weight: Tensor) -> Tensor:
        """The nearest codes of `weight`, (rows, columns), as floats."""
        ...

    def values(self, codes: Tensor) -> Tensor:
        """The weights that codes of the same shape stand for, in float32."""
        ...

    def rounded(self, weight: Tensor) -> Tensor:
        """`weight` at its nearest values."""
        ...

    def of_rows(self, index: Tensor) -> Self:
        """The grid of some rows, (n,)."""
        ...

    def column(self, index: int, columns: int) -> Self:
        """The grid of one column, a (rows, 1) matrix."""
        ...

    def where(self, chosen: Tensor, other: Self) -> Self:
        """This grid in the groups where `chosen`, (rows, groups) of bool, is true, and `other` elsewhere."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by the name of a layer's buffer; see `restored`."""
        ...


@dataclass(frozen=True)
class IntegerGrid:
    """The numbers that a weight in integers can take.

    Attributes:
        bits: of a code.
        scale: (rows, groups) of float16, (1, 1) where the whole matrix has one; float32 where `second` is given.
        zero: (rows, groups) of whole numbers in [0, 2^bits), as floats; `None` where symmetric.
        second: how the scales are stored, `None` for as they are.
    """

    bits: int
    scale: Tensor
    zero: Tensor | None
    second: SecondLevel | None = None

    @property
    def middle(self) -> Tensor | int:
        """The code of zero."""
        return 2 ** (self.bits - 1) if self.zero is None else self.zero

    def codes(self, weight: Tensor) -> Tensor:
        """The nearest codes of `weight`, (rows, columns), as floats."""
        scale, middle = self.expanded(weight.shape)
        return (weight / scale + middle).round().clamp(0, 2**self.bits - 1)

    def values(self, codes: Tensor) -> Tensor:
        """The weights that codes of the same shape stand for, in float32."""
        rows, columns = codes.shape
        groups = codes.reshape(1, 1, -1) if self.scale.shape == (1, 1) else codes.reshape(rows, self.scale.shape[1], -1)
        middle = self.middle if isinstance(self.middle, int) else self.middle[:, :, None]
        values = groups.to(torch.float32, copy=True).sub_(middle).mul_(self.scale.float()[:, :, None])
        return values.reshape(rows, columns)

    def rounded(self, weight: Tensor) -> Tensor:
        """`weight` at its nearest values."""
        return self.values(self.codes(weight))

    def expanded(self, shape: torch.Size) -> tuple[Tensor, Tensor | int]:
        """Scale and zero point for every element of a (rows, columns) matrix, in float32."""
        return _spread(self.scale.float(), shape), (
            self.middle if isinstance(self.middle, int) else _spread(self.middle, shape)
        )

    def of_rows(self, index: Tensor) -> IntegerGrid:
        """The grid of some rows, (n,)."""
        if self.scale.shape == (1, 1):
            return self
        return IntegerGrid(self.bits, self.scale[index], None if self.zero is None else self.zero[index])

    def column(self, index: int, columns: int) -> IntegerGrid:
        """The grid of one column, a (rows, 1) matrix."""
        group = index * self.scale.shape[1] // columns
        zero = None if self.zero is None else self.zero[:, group : group + 1]
        return IntegerGrid(self.bits, self.scale[:, group : group + 1], zero)

    def where(self, chosen: Tensor, other: IntegerGrid) -> IntegerGrid:
        """This grid in the groups where `chosen`, (rows, groups) of bool, is true, and `other` elsewhere."""
        zero = None if self.zero is None or other.zero is None else torch.where(chosen, self.zero, other.zero)
        return IntegerGrid(self.bits, torch.where(chosen, self.scale, other.scale), zero)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        zero = {} if self.zero is None else {"grid_zero": pack(self.zero, self.bits)}
        return {**({"grid_scale": self.scale} if self.second is None else self.second.tensors()), **zero}

    @classmethod
    def restored(cls, bits: int, tensors: Mapping[str, Tensor], rows: int) -> IntegerGrid:
        """The inverse of `tensors`."""
        second = None if "grid_scale" in tensors else SecondLevel.restored(tensors, rows)
        scale = tensors["grid_scale"] if second is None else second.values
        zero = tensors.get("grid_zero")
        if zero is not None:
            zero = unpack(zero, bits, scale.numel()).float().reshape(scale.shape)
        return cls(bits, scale, zero, second)

    def with_second_level(self, bits: int) -> IntegerGrid:
        """The grid with scales of `bits` bits; zero points move so that the ranges begin where they did."""
        second = second_level(self.scale, bits)
        scale = second.values
        zero = None if self.zero is None else (self.zero * self.scale / scale).round().clamp(0, 2**self.bits - 1)
        return IntegerGrid(self.bits, scale, zero, second)


def _spread(per_group: Tensor, shape: torch.Size) -> Tensor:
    rows, columns = shape
    if per_group.shape == (1, 1):
        return per_group.expand(rows, columns)
    return per_group.repeat_interleave(columns // per_group.shape[1], dim=1)


def restored(code: WeightCode, tensors: Mapping[str, Tensor], rows: int) -> Grid:
    """The grid whose `tensors` are among these, of a matrix of so many rows."""
    if code.format in FORMATS:
        return FloatGrid.restored(code.format, tensors)
    return IntegerGrid.restored(code.bits, tensors, rows)


def integers(grid: Grid) -> IntegerGrid:
    """The same grid, for methods that are refused for all codes but integers."""
    assert isinstance(grid, IntegerGrid), "capability refuses other formats for this method"
    return grid


def grid(weight: Tensor, code: WeightCode, share: float = 1.0) -> Grid:
    """The grid from the range of every group of `weight`, (rows, columns), or from a share of it."""
    if code.format in FORMATS:
        return float_grid(weight, code.format, share)
    return integer_grid(weight, code, share)


def integer_grid(weight: Tensor, code: WeightCode, share: float = 1.0) -> IntegerGrid:
    """The grid from minimum and maximum of every group of `weight`, (rows, columns), its range shrunk to a share.

    Symmetric: s = max|w| / (2^(b-1) - 1). Otherwise s = (max - min) / (2^b - 1) with 0 in the range, and
    z = round(-min / s) (Jacob et al. 2018, arXiv 1712.05877, eq. 1).
    """
    groups = grouped(weight, code)
    steps = 2**code.bits - 1
    if code.symmetric:
        largest = max(2 ** (code.bits - 1) - 1, 1)
        return IntegerGrid(code.bits, half(groups.abs().amax(2) * share / largest), None)
    low, high = groups.amin(2).clamp(max=0) * share, groups.amax(2).clamp(min=0) * share
    scale = half((high - low) / steps)
    return IntegerGrid(code.bits, scale, (-low / scale.float()).round().clamp(0, steps))


def grouped(matrix: Tensor, code: WeightCode) -> Tensor:
    """A (rows, columns) matrix as (rows, groups, elements of a group); (1, 1, all) for one scale in all."""
    if isinstance(code.granularity, PerTensor):
        return matrix.reshape(1, 1, -1)
    if isinstance(code.granularity, PerGroup):
        return matrix.reshape(matrix.shape[0], -1, code.granularity.group_size)
    return matrix[:, None, :]


def half(scale: Tensor) -> Tensor:
    """A scale as it is stored, in float16 and above zero."""
    return scale.clamp(min=_SMALLEST).to(torch.float16)


def clipped_grid(weight: Tensor, code: WeightCode, importance: Tensor | None = None) -> Grid:
    """The grid whose range, shrunk in twenty steps down to a fifth, gives every group the least squared error.

    Block floats have shares of their own.

    Args:
        weight: (rows, columns).
        importance: of every column's error, (columns,), such as the mean square of its input; all equal without.

    Source: the clipping search of AWQ (Lin et al. 2023, arXiv 2306.00978, section 4.1) and of OMSE (Choukroun
    et al. 2019, arXiv 1902.06822), with the error weighted by the input's power.
    """
    best: Grid | None = None
    least = torch.full(grouped(weight, code).shape[:2], torch.inf, device=weight.device)
    weighting = torch.ones(weight.shape[1], device=weight.device) if importance is None else importance
    shares = FORMATS[code.format].shares if code.format in FORMATS else torch.linspace(1.0, 0.2, 21).tolist()
    for share in shares:
        tried = grid(weight, code, share)
        loss = grouped((tried.rounded(weight) - weight) ** 2 * weighting, code).sum(2)
        better = loss < least
        best = tried if best is None else tried.where(better, best)
        least = torch.minimum(least, loss)
    assert best is not None
    return best
