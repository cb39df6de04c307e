"""Test sets from the hub through `datasets`, pinned to a commit and readable again from the cache alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness._hub import dataset_snapshot
from harness.config import Data
from harness.datasets._base import Corpus, Utterance, corpus_of
from harness.errors import DataError


@dataclass(frozen=True)
class Source:
    """Where a split lies on the hub, and how its columns are called."""

    repository: str
    configuration: str
    split: str
    id: str = "id"
    text: str = "text"
    audio: str = "audio"
    speaker: str | None = None

    @property
    def files(self) -> list[str]:
        """Patterns of the split's files in the repository."""
        return [f"{self.configuration}/{self.split}/*", f"{self.configuration}/{self.split}-*"]


def load_from_hub(source: Source, data: Data, *, cached_only: bool = False) -> Corpus:
    """List a split of the hub; audio stays encoded until it is asked for.

    The files are fetched as a snapshot, so that the commit is known and the cache alone will do later;
    `datasets` reads the snapshot.

    Raises:
        HubUnreachableError: neither the hub nor the cache has it.
        DataError: the split or a column is missing.
    """
    from datasets import Audio, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    snapshot = dataset_snapshot(source.repository, data.revision, source.files, cached_only=cached_only)
    disable_progress_bars()
    try:
        table = load_dataset(str(snapshot), source.configuration, split=source.split)
    except (ValueError, FileNotFoundError, DatasetNotFoundError) as error:
        raise DataError(f"{source.repository}: {str(error).splitlines()[0]}") from None
    missing = {source.id, source.text, source.audio} - set(table.column_names)
    if missing:
        raise DataError(f"{source.repository}: there is no column {sorted(missing)[0]!r}")
    encoded = table.cast_column(source.audio, Audio(decode=False))
    plain = table.remove_columns(source.audio)
    utterances = [_utterance(source, row, _reader(encoded, index, source)) for index, row in enumerate(plain)]
    return corpus_of(source.repository, utterances, data, commit=snapshot.name)


def _utterance(source: Source, row: dict[str, Any], audio: Callable[[], bytes]) -> Utterance:
    name = str(row[source.id])
    speaker = name if source.speaker is None else str(row[source.speaker])
    return Utterance(name, speaker, str(row[source.text]), audio)


def _reader(table: Any, index: int, source: Source) -> Callable[[], bytes]:
    def read() -> bytes:
        data: bytes = table[index][source.audio]["bytes"]
        return data

    return read
