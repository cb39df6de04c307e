"""A layer's weight in integers, as one adapter hands it to another: what is exported is what was quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from backends.core.codes import WeightCode


@dataclass(frozen=True)
class IntegerWeight:
    """The weight of a linear layer: (codes - zero) scale, on an input that is divided by `divisor` first.

    Attributes:
        code: how it is coded.
        codes: (rows, columns) of uint8, in [0, 2^bits).
        scale: (rows, groups) of float16 or float32; every group has as many columns.
        zero: (rows, groups) of uint8, `None` where it is 2^(bits - 1) everywhere.
        divisor: (columns,) of float32, `None` for none.
    """

    code: WeightCode
    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    divisor: Tensor | None = None


@runtime_checkable
class Coded(Protocol):
    """What a backend has beside the members of `Backend` if its codes can be exported."""

    def integers(self, module: nn.Module, name: str) -> IntegerWeight:
        """The weight of one quantized module.

        Raises:
            UnsupportedError: there is more to it than codes, scales and zero points; the message has its `name`.
        """
        ...
