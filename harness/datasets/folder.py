"""A user's own folder: audio, `metadata.csv` or `.jsonl` with `file_name`, `text`, perhaps `speaker` and `language`."""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Extent, Utterance, corpus_of, root_of
from harness.datasets._table import FILE_NAME, TEXT, Record, read_csv, read_json_lines
from harness.errors import DataError
from harness.experiment.tables import Data

_READERS = {"metadata.csv": read_csv, "metadata.jsonl": read_json_lines}
_NO_SPLIT = "test"
"""What a split is called where the file names none."""


class Folder:
    """The layout of the `audiofolder` of `datasets`; `split` names a subdirectory."""

    name = "folder"

    def extent(self, data: Data) -> Extent | None:
        """Not known before reading."""
        return None

    def corpus(self, data: Data) -> str:
        """Every folder is one."""
        return data.label

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """`root` is required; without a `split`, and without a subdirectory `test`, it holds the table itself."""
        directory = directory_of(data)
        tables = [directory / name for name in _READERS if (directory / name).is_file()]
        if not tables:
            near = ", ".join(
                sorted(p.name for p in directory.iterdir() if p.suffix in (".csv", ".tsv", ".jsonl", ".json"))
            )
            raise DataError(
                f"{directory}: there is no metadata.csv, .tsv or .jsonl with the columns file_name, text"
                + (f", only {near}" if near else "")
            )
        if len(tables) > 1:
            raise DataError(
                f"{directory}: there are metadata.csv and metadata.jsonl; take away the one that is not meant"
            )
        (path,) = tables
        rows = _READERS[path.name](path)
        if not rows:
            raise DataError(f"{path}: the transcript file is empty")
        return corpus_of("folder", [_utterance(directory, row) for row in rows], data)


def directory_of(data: Data) -> Path:
    """The directory of a split.

    Raises:
        DataError: there is no such directory.
    """
    root = root_of(data)
    if (root / data.split).is_dir():
        return root / data.split
    if data.split != _NO_SPLIT:
        there = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "none"
        raise DataError(
            f"{root / data.split}: there is no such directory, so no split {data.split!r} (there are: {there}); "
            "leave split out to read the folder itself, and call it by name"
        )
    return root


def _utterance(directory: Path, row: Record) -> Utterance:
    name = row.text(FILE_NAME)
    if not name.strip():
        raise DataError(f"{row.where}: {FILE_NAME} is empty; name the recording, or take the row away")
    return Utterance(name, row.speaker, row.text(TEXT), directory / name, row.language)


DATASET = Folder()
