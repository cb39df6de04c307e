"""TOML files of a user, read with a sentence where they cannot be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from harness.errors import ConfigError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The document in a file; `what` says what it should be, such as `experiment file`.

    Raises:
        ConfigError: it is missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such {what}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: it is a directory; name the {what} in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: values are nested too deeply") from None
