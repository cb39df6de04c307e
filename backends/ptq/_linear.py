"""The linear layer that every method ends in: packed codes, and whatever the method adds to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from backends.core.activations import range_of, round_activations, widened
from backends.core.codes import Activations, WeightCode
from backends.core.errors import UnsupportedError
from backends.core.integers import IntegerWeight
from backends.core.observing import counted
from backends.ptq._codes import Grid, IntegerGrid, restored
from backends.ptq._hadamard import rotate
from backends.ptq._packing import pack, unpack


@dataclass(frozen=True)
class Outliers:
    """Weights that are kept apart from the codes.

    Attributes:
        index: positions in the flattened (rows, columns) weight, (count,) of int32, ascending.
        values: what is added there to what the codes stand for, (count,) of float16.
    """

    index: Tensor
    values: Tensor


@dataclass(frozen=True)
class LowRank:
    """A correction of the weight: up @ down is added.

    Attributes:
        up: (rows, rank) of float16.
        down: (rank, columns) of float16.
    """

    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Transform:
    """What is done to a layer's input, and undone in its weight, before anything is rounded.

    The layer computes W x = (W T^-1) (T x). First every input channel is divided by `scale`, then the
    vector is rotated.

    Attributes:
        scale: (columns,) of float32, positive; `None` for none.
        rotated: whether a Hadamard rotation follows.
    """

    scale: Tensor | None = None
    rotated: bool = False

    def of_input(self, inputs: Tensor) -> Tensor:
        """T x, of any shape (..., columns)."""
        if self.scale is not None:
            inputs = (inputs / self.scale).to(inputs.dtype)
        return rotate(inputs) if self.rotated else inputs

    def of_weight(self, weight: Tensor) -> Tensor:
        """W T^-1, (rows, columns)."""
        if self.scale is not None:
            weight = weight * self.scale
        return rotate(weight) if self.rotated else weight


@dataclass(frozen=True)
class Solution:
    """What a method found for one layer, all of the transformed weight.

    Attributes:
        codes: (rows, columns) of whole numbers in [0, 2^bits).
        grid: what they stand for.
        outliers, low_rank: what is added, `None` for nothing.
    """

    codes: Tensor
    grid: Grid
    outliers: Outliers | None = None
    low_rank: LowRank | None = None

    @property
    def weight(self) -> Tensor:
        """The transformed weight that the layer will compute with, (rows, columns) of float32."""
        weight = self.grid.values(self.codes)
        if self.outliers is not None:
            flat = weight.reshape(-1)
            flat[self.outliers.index.long()] += self.outliers.values.float()
        if self.low_rank is not None:
            weight = weight + self.low_rank.up.float() @ self.low_rank.down.float()
        return weight


@dataclass(frozen=True)
class Shape:
    """Of the weight; everything that unpacking needs beside the tensors."""

    rows: int
    columns: int
    code: WeightCode
    activations: Activations | None = field(default=None)


class QuantizedLinear(nn.Module):
    """`nn.Linear` on packed weights: same shapes and dtypes in and out; unpacks in every call, unless it is held.

    Activations, where they are quantized, are rounded and stay floats: simulated.
    """

    widens_bias = True
    """A bias may be stored narrower than it is computed."""
    codes: Tensor
    grid_scale: Tensor | None
    grid_zero: Tensor | None
    tensor_scale: Tensor | None
    scale_codes: Tensor | None
    scale_low: Tensor | None
    scale_step: Tensor | None
    input_channels: Tensor | None
    bias: Tensor | None
    outlier_index: Tensor | None
    outlier_values: Tensor | None
    low_rank_up: Tensor | None
    low_rank_down: Tensor | None
    input_range: Tensor | None

    def __init__(self, shape: Shape, tensors: dict[str, Tensor], rotated: bool) -> None:
        super().__init__()
        self.shape, self.rotated, self.observing = shape, rotated, False
        self._held: Tensor | None = None
        self.in_features, self.out_features = shape.columns, shape.rows
        for name in _TENSORS:
            self.register_buffer(name, tensors.get(name))

    @classmethod
    def of(cls, solution: Solution, transform: Transform, shape: Shape, bias: Tensor | None) -> QuantizedLinear:
        """Pack a solution."""
        tensors = {
            "codes": pack(solution.codes, shape.code.bits),
            **solution.grid.tensors(),
            "input_channels": transform.scale,
            "bias": None if bias is None else bias.detach().clone(),
        }
        if solution.outliers is not None:
            tensors |= {"outlier_index": solution.outliers.index, "outlier_values": solution.outliers.values}
        if solution.low_rank is not None:
            tensors |= {"low_rank_up": solution.low_rank.up, "low_rank_down": solution.low_rank.down}
        return cls(shape, {k: v for k, v in tensors.items() if v is not None}, transform.rotated)

    @property
    def transform(self) -> Transform:
        """What is done to the input."""
        return Transform(self.input_channels, self.rotated)

    @property
    def weight(self) -> Tensor:
        """The transformed weight, (rows, columns) of float32, unpacked anew."""
        return self._solution().weight

    def _solution(self) -> Solution:
        rows, columns = self.shape.rows, self.shape.columns
        outliers = low_rank = None
        if self.outlier_index is not None and self.outlier_values is not None:
            outliers = Outliers(self.outlier_index, self.outlier_values)
        if self.low_rank_up is not None and self.low_rank_down is not None:
            low_rank = LowRank(self.low_rank_up, self.low_rank_down)
        codes = unpack(self.codes, self.shape.code.bits, rows * columns).reshape(rows, columns)
        return Solution(codes, restored(self.shape.code, dict(self.named_buffers()), rows), outliers, low_rank)

    def integers(self) -> IntegerWeight:
        """The codes and what they stand for.

        Raises:
            UnsupportedError: there is more to the layer than that.
        """
        solution = self._solution()
        added = {"rotate": self.rotated, "low_rank": solution.low_rank, "outliers": solution.outliers}
        if more := [name for name, part in added.items() if part]:
            raise UnsupportedError(f"it has {', '.join(more)} beside its codes")
        if not isinstance(solution.grid, IntegerGrid):
            raise UnsupportedError(f"its codes are {self.shape.code.format}, not integers")
        zero = None if solution.grid.zero is None else solution.grid.zero.to(torch.uint8)
        return IntegerWeight(self.shape.code, solution.codes, solution.grid.scale, zero, self.input_channels)

    def original_weight(self, index: Tensor | None = None) -> Tensor:
        """The weight as it acts on the untransformed input: W' T, (rows, columns).

        Args:
            index: (n,) of rows that are wanted, which are unpacked alone where that can be; `None` for all.
        """
        weight = self.weight if index is None else self._rows(index)
        if self.transform == Transform():
            return weight
        identity = torch.eye(self.shape.columns, device=self.codes.device)
        return weight @ self.transform.of_input(identity).T

    def _rows(self, index: Tensor) -> Tensor:
        """Rows of `weight`, (n, columns). Rows that begin within a byte, or have outliers, come from the whole."""
        columns, bits = self.shape.columns, self.shape.code.bits
        if columns % 8 or self.outlier_index is not None:
            return self.weight[index]
        packed = self.codes.reshape(self.shape.rows, -1)[index]
        grid = restored(self.shape.code, dict(self.named_buffers()), self.shape.rows).of_rows(index)
        weight = grid.values(unpack(packed, bits, index.numel() * columns).reshape(-1, columns))
        if self.low_rank_up is not None and self.low_rank_down is not None:
            weight = weight + self.low_rank_up[index].float() @ self.low_rank_down.float()
        return weight

    def hold(self, unpacked: bool) -> None:
        """Keep the unpacked weight from now on, or let it go; see `backends.core.holding`."""
        self._held = self.weight if unpacked else None

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., columns) to (..., rows)."""
        transformed = self.transform.of_input(inputs)
        code = self.shape.activations
        if self.observing:
            self.input_range = widened(self.input_range, counted(transformed))
        elif code is not None:
            span = range_of(transformed, code) if self.input_range is None else self.input_range.unbind()
            transformed = round_activations(transformed, code, *span)
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        weight = self.weight if self._held is None else self._held
        return nn.functional.linear(transformed, weight.to(inputs.dtype), bias)


_TENSORS = (
    "codes",
    "grid_scale",
    "grid_zero",
    "tensor_scale",
    "scale_codes",
    "scale_low",
    "scale_step",
    "input_channels",
    "bias",
    "outlier_index",
    "outlier_values",
    "low_rank_up",
    "low_rank_down",
    "input_range",
)
