"""Keys of an experiment file that the command line sets."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from harness.errors import ConfigError


def apply_override(document: dict[str, Any], override: str) -> None:
    """Put `key=value`, with dots in the key, into a parsed experiment file, in place.

    Raises:
        ConfigError: it has no `=`, or the key leads through something that is not a table, or that is several.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: write key=value, such as decoding.batch_size=8")
    table: Any = document
    *path, last = key.strip().split(".")
    for place, part in enumerate(path):
        table = _entered(table, path[:place], part, override)
    table = _only(table, path, last, override)
    if not isinstance(table, dict):
        raise ConfigError(f"--set {override}: {'.'.join(path)} is not a table")
    table[last] = _toml_value(text)


def _entered(table: Any, before: Sequence[str], part: str, override: str) -> Any:
    """The table or list that stands in `table` under the key `part`; a table that is missing is made."""
    if isinstance(table, list) and part.isdigit():
        if int(part) < len(table):
            return table[int(part)]
        name = ".".join(before)
        raise ConfigError(f"--set {override}: there is no {name}.{part}; the file has {name}.0 to {len(table) - 1}")
    table = _only(table, before, part, override)
    if not isinstance(table, dict):
        raise ConfigError(f"--set {override}: {'.'.join(before)} is not a table")
    return table.setdefault(part, {})


def _only(table: Any, before: Sequence[str], part: str, override: str) -> Any:
    """The one table of a list; of several one must be named."""
    if not isinstance(table, list):
        return table
    if len(table) == 1:
        return table[0]
    name = ".".join(before)
    raise ConfigError(f"--set {override}: the file has {len(table)} tables [[{name}]]; name one, as in {name}.0.{part}")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
