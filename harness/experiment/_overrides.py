"""Keys of an experiment file that the command line sets."""

from __future__ import annotations

import tomllib
from typing import Any

from harness.errors import ConfigError


def apply_override(document: dict[str, Any], override: str) -> None:
    """Put `key=value`, with dots in the key, into a parsed experiment file, in place.

    Raises:
        ConfigError: it has no `=`, or the key leads through something that is not a table.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: write key=value, such as decoding.batch_size=8")
    table: Any = document
    *path, last = key.strip().split(".")
    for part in path:
        table = table[int(part)] if isinstance(table, list) and part.isdigit() and int(part) < len(table) else table
        if isinstance(table, dict) and not part.isdigit():
            table = table.setdefault(part, {})
    if not isinstance(table, dict):
        raise ConfigError(
            f"--set {override}: {key} is not a key of a table; number the entries of lists, as in model.0.path"
        )
    table[last] = _toml_value(text)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
