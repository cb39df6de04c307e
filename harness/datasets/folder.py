"""A user's own folder: audio and `metadata.csv` or `.jsonl` with `file_name`, `text` and perhaps `speaker`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from harness.config import Data
from harness.datasets._base import Corpus, Extent, Utterance, corpus_of, read_transcript
from harness.errors import DataError


class Folder:
    """The layout of the `audiofolder` of `datasets`; `split` names a subdirectory, if there is one."""

    name = "folder"

    def extent(self, data: Data) -> Extent | None:
        """Not known before reading."""
        return None

    def corpus(self, data: Data) -> str:
        """Every folder is one."""
        return data.label

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """`root` is required; the split's subdirectory is used where it exists."""
        if data.root is None:
            raise DataError('data: the dataset folder needs root = "path/to/folder"')
        root = Path(data.root).expanduser()
        directory = root / data.split if (root / data.split).is_dir() else root
        path = next((directory / n for n in ("metadata.csv", "metadata.jsonl") if (directory / n).is_file()), None)
        if path is None:
            raise DataError(f"{directory}: there is no metadata.csv or metadata.jsonl with the columns file_name, text")
        rows = _rows(path)
        if not rows:
            raise DataError(f"{path}: the transcript file is empty")
        return corpus_of("folder", [_utterance(path, number, row) for number, row in enumerate(rows, 1)], data)


def _rows(path: Path) -> list[dict[str, Any]]:
    text = read_transcript(path)
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [_json_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _json_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number} is not JSON: {error.msg}") from None
    return row


def _utterance(path: Path, number: int, row: dict[str, Any]) -> Utterance:
    missing = [key for key in ("file_name", "text") if not isinstance(row, dict) or row.get(key) is None]
    if missing:
        raise DataError(
            f"{path}: row {number} has no {missing[0]}; the columns are file_name, text and perhaps speaker"
        )
    name, speaker = str(row["file_name"]), row.get("speaker")
    known = None if speaker is None or speaker == "" else str(speaker)
    return Utterance(name, known, str(row["text"]), path.parent / name)


DATASET = Folder()
