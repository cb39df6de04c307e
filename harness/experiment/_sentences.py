"""What is wrong with an experiment file, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

Location = Sequence[int | str]


def first_sentence(error: ValidationError, fields_at: Callable[[Location], Sequence[str]]) -> str:
    """The first error, in a sentence that names the key and what is allowed; `fields_at` knows a table's keys."""
    first = error.errors()[0]
    key = _key_path(first["loc"])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(fields_at(first["loc"][:-1]))
        return f"unknown key {key}; allowed here are {allowed}"
    if first["type"] == "missing":
        return f"the key {key} is missing"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "value_error":
        return f"key {key}: {message}"
    return f"key {key}: {message[0].lower()}{message[1:]}, but it is {first['input']!r}"


def _key_path(location: Location) -> str:
    """`('grid', 1, 'bits', 'int')` as `grid.1.bits`: as `--set` has it, the names of alternatives left out."""
    keys = [str(part) for part in location if isinstance(part, int) or _is_key(part)]
    return ".".join(keys) or "the file"


def _is_key(part: str) -> bool:
    alternatives = {"str", "int", "bool", "float", "ActivationsTable"}
    return part not in alternatives and not part.startswith(("list[", "literal[", "dict[", "constrained-"))
