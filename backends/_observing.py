"""What observers may count while a model is shown calibration speech: everything but the padding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from backends._base import CalibrationInput

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN: ContextVar[CalibrationInput | None] = ContextVar("shown", default=None)


@contextmanager
def showing(item: CalibrationInput) -> Iterator[None]:
    """Let `counted` know which batch the model is at."""
    token = _SHOWN.set(item)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def counted(seen: Tensor) -> Tensor:
    """The vectors of a linear layer's input or output that count.

    Args:
        seen: (batch, positions, width). What has as many positions as there are decoder tokens is the
            decoder's, all else the encoder's.

    Returns:
        (vectors, width); `seen` itself where no padding is known, or it has another shape.
    """
    item = _SHOWN.get()
    if item is None or seen.dim() != 3:
        return seen
    tokens = None if hasattr(item.inputs, "shape") else item.inputs.get("decoder_input_ids")
    of_decoder = tokens is not None and tokens.shape[1] == seen.shape[1]
    mask = item.mask("decoder" if of_decoder else "encoder", seen.shape[1])
    return seen if mask is None else seen[mask]
