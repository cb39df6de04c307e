"""The manifest of a saved model: what was quantized how, and the SHA-256 of every file beside it and of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.core.errors import CheckpointError
from backends.core.inspection import check_directory

MANIFEST = "quantization.json"
WEIGHTS = "quantized.safetensors"
ENGINE = "engine"
FORMAT_VERSION = 5
_READABLE = (4, 5)
"""Version 4 knew no recipe and no rest."""
_CHECKSUM = "sha256"


def read_manifest(directory: Path) -> dict[str, Any]:
    """What a saved model says of itself.

    Raises:
        CheckpointError: it is missing, was altered, or is of an unknown format version.
    """
    path = directory / MANIFEST
    check_directory(directory)
    if not path.is_file() or not (directory / WEIGHTS).is_file():
        raise CheckpointError(f"{directory} has no {MANIFEST} with {WEIGHTS}: it was not written by Quantized.save")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: incomplete or altered: {error}") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version not in _READABLE:
        raise CheckpointError(f"{path} has format_version {version}; this release reads {FORMAT_VERSION}")
    if manifest.pop(_CHECKSUM, None) != _checksum(manifest):
        raise CheckpointError(f"{path}: incomplete or altered: its own SHA-256 is another; save the model again")
    return manifest


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest beside all other files, whose SHA-256 it is given."""
    full = {**manifest, "files": {name: _digest(directory / name) for name in _files(directory)}}
    (directory / MANIFEST).write_text(json.dumps({**full, _CHECKSUM: _checksum(full)}, indent=1) + "\n")


def _files(directory: Path) -> list[str]:
    """All that is in it."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(directory: Path, digests: Mapping[str, str]) -> None:
    """Raise where a file is missing, was altered, or was put among an engine's; others may be added."""
    strangers = {name for name in _files(directory) if name.startswith(f"{ENGINE}/")} - digests.keys()
    for name in sorted({*digests, *strangers}):
        path = directory / name
        if name in strangers or not path.is_file() or _digest(path) != digests[name]:
            raise CheckpointError(
                f"{path}: incomplete or altered: {MANIFEST} has another SHA-256; save the model again"
            )
