"""What all tables of an experiment file have in common."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness._printing import printable

Scalar = str | int | float | bool
T = TypeVar("T")
Several = Annotated[list[T], Field(min_length=1)]
"""A list to be multiplied out; an empty one would silently drop its block."""


class Table(BaseModel):
    """Base of all tables: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _plain_text(cls, value: Any) -> Any:
        """No text of a file may steer a terminal or cut a line."""
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and printable(text) != text for text in texts):
            raise ValueError("control characters are not allowed")
        return value
