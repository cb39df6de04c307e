"""Test sets from the hub through `datasets`, pinned to a commit and readable again from the cache alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness._hub import dataset_commit, offline_sentence
from harness.config import Data
from harness.datasets._base import Corpus, Utterance, corpus_of
from harness.errors import DataError, HubUnreachableError


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


def load_from_hub(source: Source, data: Data) -> Corpus:
    """List a split of the hub; audio stays encoded until it is asked for.

    Raises:
        HubUnreachableError: neither the hub nor the cache has it.
        DataError: the split or a column is missing.
    """
    from datasets import Audio, load_dataset

    commit = dataset_commit(source.repository, data.revision)
    try:
        table = load_dataset(source.repository, source.configuration, split=source.split, revision=commit)
    except (ConnectionError, OSError) as error:
        raise HubUnreachableError(offline_sentence(source.repository)) from error
    except ValueError as error:
        raise DataError(f"{source.repository}: {str(error).splitlines()[0]}") from None
    missing = {source.id, source.text, source.audio} - set(table.column_names)
    if missing:
        raise DataError(f"{source.repository}: there is no column {sorted(missing)[0]!r}")
    encoded = table.cast_column(source.audio, Audio(decode=False))
    plain = table.remove_columns(source.audio)
    utterances = [_utterance(source, row, _reader(encoded, index, source)) for index, row in enumerate(plain)]
    return corpus_of(source.repository, utterances, data, revision=commit)


def _utterance(source: Source, row: dict[str, Any], audio: Callable[[], bytes]) -> Utterance:
    name = str(row[source.id])
    speaker = name if source.speaker is None else str(row[source.speaker])
    return Utterance(name, speaker, str(row[source.text]), audio)


def _reader(table: Any, index: int, source: Source) -> Callable[[], bytes]:
    def read() -> bytes:
        data: bytes = table[index][source.audio]["bytes"]
        return data

    return read
