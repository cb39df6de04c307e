"""Atomic file writes with checksums: a file is there whole or not at all, and a change is noticed.

What cannot be written is the user's to mend (a full disk, a directory without permission): one sentence.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from harness.errors import OutputError

T = TypeVar("T")
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{12}")
_CHECKSUM = "sha256"


def temporary_beside(path: Path) -> Path:
    """A hidden name beside `path`, in the same file system, that nothing else has."""
    return path.with_name(f".{path.name}-{uuid4().hex[:12]}")


def is_temporary(path: Path) -> bool:
    """Whether a name is one of `temporary_beside`: left over, where no writer is alive."""
    return _TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong in writing `path` into one sentence.

    Raises:
        OutputError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise OutputError(
            f"{path}: cannot be written: {reason}; make room or give permission, and run the same command again"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        with writing(path):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        _discard(temporary)


def _discard(temporary: Path) -> None:
    """Remove it where it is there; what forbids that also kept it from being written, and is told by `writing`."""
    with suppress(OSError):
        temporary.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(paths: Iterable[Path]) -> str:
    """Lines as `sha256sum` writes them, for files of one directory."""
    return "".join(f"{digest_of(path)}  {path.name}\n" for path in paths)


def damage(listing: Path) -> str | None:
    """What is wrong with the files that a listing of `checksums` names; `None` if they are what was written."""
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        return f"{listing}: cannot be read: {str(error).splitlines()[0]}"
    if not lines:
        return f"{listing}: it lists no files"
    for line in lines:
        expected, _, name = line.partition("  ")
        path = listing.parent / Path(name).name
        if not path.is_file():
            return f"{path}: it is missing"
        if digest_of(path) != expected:
            return f"{path}: it is not what was written (its SHA-256 is not that in {listing.name})"
    return None


def as_json(value: Mapping[str, Any]) -> str:
    """The text of a JSON document, for people too."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a file by a JSON document that carries its own checksum.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(as_json({**document, _CHECKSUM: _checksum(document)}), encoding="utf-8")


def create_json(path: Path, document: Mapping[str, Any]) -> None:
    """The same, but what another process has written already stays.

    Raises:
        OutputError: it cannot be written.
    """
    prepared = temporary_beside(path)
    write_json(prepared, document)
    try:
        with writing(path), suppress(FileExistsError):
            os.link(prepared, path)
    finally:
        _discard(prepared)


def read_json(path: Path, mend: str = "remove it and run again") -> dict[str, Any]:
    """The document that `write_json` wrote.

    Raises:
        OutputError: it is missing, broken, or was changed.
    """
    content: dict[str, Any] = reading(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(content, dict) or content.pop(_CHECKSUM, None) != _checksum(content):
        raise OutputError(f"{path}: it is not what was written (its checksum differs); {mend}")
    return content


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(as_json(document).encode("utf-8", "surrogatepass")).hexdigest()


def written(path: Path) -> int | None:
    """When a file was written, in nanoseconds; `None` where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def reading(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives.

    Raises:
        OutputError: the file is missing or broken.
    """
    try:
        return read()
    except FileNotFoundError:
        raise OutputError(f"{path}: it is missing; run the experiment again") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"{path}: cannot be read: {reason}; remove it and run the experiment again") from None


def seal(directory: Path, key: str, suffix: str, write: Callable[[Path], object]) -> Path:
    """Keep what `write` writes as `<key>-<digest><suffix>`, so that its name tells when it was changed.

    Raises:
        OutputError: it cannot be written.
    """
    place = directory / f"{key}{suffix}"
    temporary = temporary_beside(place)
    try:
        with writing(place):
            directory.mkdir(parents=True, exist_ok=True)
            write(temporary)
            sync(temporary)
            sealed = directory / f"{key}-{digest_of(temporary)[:16]}{suffix}"
            temporary.replace(sealed)
            sync(directory)
    finally:
        _discard(temporary)
    return sealed


def sealed(directory: Path, key: str, suffix: str) -> Path | None:
    """The file that `seal` kept under a key; one that was changed is removed."""
    for path in directory.glob(f"{key}-*{suffix}"):
        if path.name == f"{key}-{digest_of(path)[:16]}{suffix}":
            return path
        path.unlink(missing_ok=True)
    return None
