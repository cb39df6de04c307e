"""What a method is: one file that exposes `METHOD`, and says how a layer, or a block of layers, is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from torch import Tensor, nn

from backends.core.codes import Activations, WeightCode
from backends.ptq._linear import Solution, Transform
from backends.ptq._options import PtqOptions
from backends.ptq._statistics import Statistics


class Needs(IntEnum):
    """What a method must be told of a layer's input; each has all that the one before has."""

    NOTHING = 0
    STATISTICS = 1
    EXACT = 2
    """Statistics against what full precision has in the same place."""
    BLOCK = 3
    """The whole block, its inputs and its full-precision outputs, to be optimised together."""


@dataclass(frozen=True)
class Request:
    """What is asked of a layer.

    Attributes:
        code: of the weights.
        activations: how inputs are rounded, `None` where they stay float.
        options: of the adapter.
        method: that chooses the codes, a `Method` or a `BlockMethod`.
    """

    code: WeightCode
    activations: Activations | None
    options: PtqOptions
    method: Any


@dataclass(frozen=True)
class Layer:
    """A linear layer to be quantized.

    Attributes:
        name: in the model.
        weight: (rows, columns) of float32; not to be changed.
        statistics: of its input; `None` where the method needs none.
    """

    name: str
    weight: Tensor
    statistics: Statistics | None

    @property
    def known(self) -> Statistics:
        """The statistics of a layer whose method needs them."""
        assert self.statistics is not None, "the engine gathers what the method says it needs"
        return self.statistics


class Method(Protocol):
    """A method that takes layer after layer."""

    needs: Needs

    def transform(self, layer: Layer, request: Request) -> Transform:
        """What is done to the layer's input before its weight is rounded."""
        ...

    def solve(self, layer: Layer, request: Request) -> Solution:
        """Codes for a layer whose weight and statistics are transformed already."""
        ...


@dataclass(frozen=True)
class Block:
    """A block of the encoder or decoder with what flows through it.

    Attributes:
        module: the block; its linear layers may be replaced while a method works, and must be back afterwards.
        layers: to be quantized, by their name within the block.
        inputs: keyword and positional arguments of the block for every calibration batch, quantized
            predecessors having come before.
        targets: its output in full precision for the same batches, (batch, positions, width).
        masks: which positions of the output count, (batch, positions) of bool, `None` for all.
    """

    module: nn.Module
    layers: Mapping[str, Layer]
    inputs: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
    targets: Sequence[Tensor]
    masks: Sequence[Tensor | None]


class BlockMethod(Protocol):
    """A method that optimises the layers of a block together."""

    needs: Needs

    def solve_block(self, block: Block, request: Request) -> Mapping[str, tuple[Transform, Solution]]:
        """Transform and codes of every layer of the block, by name; deterministic."""
        ...
