"""Observers during calibration: everything but the padding is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from backends.core.base import CalibrationInput

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
    """See `CalibrationInput.counted`, of the batch that the model is at; `seen` itself outside of a batch."""
    item = _SHOWN.get()
    return seen if item is None else item.counted(seen)
