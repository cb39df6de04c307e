"""A head that unpacks its codes in every call, kept unpacked while a text is generated: nothing costs more a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_head(model: Any) -> Iterator[None]:
    """In the block the head of `model` keeps its float weight, if it has a method `hold`; what it gives is the same."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    hold = getattr(head, "hold", None)
    if hold is None:
        yield
        return
    hold(True)
    try:
        yield
    finally:
        hold(False)
