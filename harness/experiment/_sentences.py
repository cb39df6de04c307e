"""What is wrong with an experiment file, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from backends.core.errors import did_you_mean

Location = Sequence[int | str]
_WRITTEN = {
    "name": "letters, digits, '.', '_' and '-', at most 100 of them, a letter or digit first",
    "run.address": "auto, local, HOST:PORT or ray://HOST:PORT",
}
"""What is allowed in texts of a certain form, by key."""
_TOLD = {
    "model_type": "it should be a table",
    "too_short": "name at least one",
    "list_type": "write it in double brackets, as in [[model]]",
    "int_type": "it should be a whole number, without quotes",
    "bool_type": "it should be true or false, without quotes",
}
"""Sentences in place of pydantic's, by the type of the error."""


def first_sentence(error: ValidationError, fields_at: Callable[[Location], Sequence[str]]) -> str:
    """The first error, in a sentence that names the key and what is allowed; `fields_at` knows a table's keys."""
    unknown = [found for found in error.errors() if found["type"] == "extra_forbidden"]
    first = (unknown or error.errors())[0]
    key = _key_path(first["loc"])
    if unknown:
        names = fields_at(first["loc"][:-1])
        return f"unknown key {key}; allowed here are {', '.join(names)}{did_you_mean(str(first['loc'][-1]), names)}"
    if first["type"] == "missing":
        return f"the key {key} is missing"
    if first["type"] == "string_pattern_mismatch":
        return f"key {key}: {first['input']!r} is not written as it should be: {_WRITTEN.get(key, 'see its pattern')}"
    message = _TOLD.get(first["type"]) or first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key or first["type"] == "value_error":
        return f"key {key}: {message}" if key else message
    if first["input"] == []:
        message = "name at least one"
    return f"key {key}: {message[0].lower()}{message[1:]}, but it is {first['input']!r}"


def _key_path(location: Location) -> str:
    """`('grid', 1, 'bits', 'int')` as `grid.1.bits`: as `--set` has it, the names of alternatives left out."""
    keys = [str(part) for part in location if isinstance(part, int) or _is_key(part)]
    return ".".join(keys)


def _is_key(part: str) -> bool:
    alternatives = {"str", "int", "bool", "float", "ActivationsTable"}
    return part not in alternatives and not part.startswith(("list[", "literal[", "dict[", "constrained-"))
