"""Test sets from the hub through `datasets`, pinned to a commit and readable again from the cache alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from harness._hub import dataset_snapshot
from harness.datasets._base import Corpus, Utterance, corpus_of
from harness.errors import DataError
from harness.experiment.tables import DETECT, Data


@dataclass(frozen=True)
class Source:
    """Where a split lies on the hub, how its columns are called, and what of it counts.

    Attributes:
        repository, configuration, split: on the hub.
        texts: columns of the reference; the first that there is.
        speaker: column of the speaker, and `speaker_of` finds it in the id; without either it is not known.
        numbered: whether ids begin with the number of the row, which then decides the order.
        scored: whether a reference counts; the others are left out.
        language: code of what is spoken.
    """

    repository: str
    configuration: str
    split: str
    id: str = "id"
    texts: tuple[str, ...] = ("text",)
    audio: str = "audio"
    speaker: str | None = None
    speaker_of: Callable[[str], str] | None = None
    numbered: bool = False
    scored: Callable[[str], bool] = lambda text: True
    language: str = "en"

    @property
    def files(self) -> list[str]:
        """Patterns of the split's files in the repository."""
        return [f"{self.configuration}/{self.split}/*", f"{self.configuration}/{self.split}-*"]


def pinned(data: Data, revision: str) -> Data:
    """`data` at a revision, unless it names another.

    Raises:
        DataError: it has a `root`, and this corpus is not read from one.
    """
    if data.root is not None:
        raise DataError(f"{data.dataset}: it comes from the hub; leave data.root out")
    return data.model_copy(update={"revision": data.revision or revision})


def check_language(data: Data, known: Collection[str]) -> str:
    """The code of `data.language`, which says what of a corpus of many languages is meant.

    Raises:
        DataError: it is none of these, or none.
    """
    if data.language is None or data.language == DETECT:
        left = " and leave finding it out to [decoding]" if data.language else ""
        raise DataError(f'{data.dataset}: say which language is meant{left}, as in language = "{min(known)}"')
    if data.language not in known:
        raise DataError(f"{data.dataset}: there is no language {data.language!r}; it has {', '.join(sorted(known))}")
    return data.language


def load_from_hub(source: Source, data: Data, *, cached_only: bool = False) -> Corpus:
    """List a split of the hub; audio stays encoded until it is asked for.

    The files are fetched as a snapshot, so that the commit is known and the cache alone will do later;
    `datasets` reads just these files (by the repository's card it would look for the other splits too, and
    remember that they were missing).

    Raises:
        HubUnreachableError: neither the hub nor the cache has it.
        DataError: the split or a column is missing.
    """
    from datasets import Audio, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetGenerationError

    snapshot = dataset_snapshot(source.repository, data.revision, source.files, cached_only=cached_only)
    disable_progress_bars()
    there = {str(path): str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}
    files = sorted(path for path, name in there.items() if any(fnmatch(name, pattern) for pattern in source.files))
    if not files:
        raise DataError(f"{source.repository}: it has no files of {source.configuration}, split {source.split}")
    try:
        table = load_dataset("parquet", data_files=files, split="train")
    except (ValueError, DatasetGenerationError) as error:
        raise DataError(f"{source.repository}: {str(error).splitlines()[0]}") from None
    text = next((name for name in source.texts if name in table.column_names), None)
    missing = {source.id, source.audio} - set(table.column_names)
    if missing or text is None:
        absent = sorted(missing)[0] if missing else " or ".join(source.texts)
        raise DataError(f"{source.repository}: there is no column {absent!r}")
    encoded = table.cast_column(source.audio, Audio(decode=False))
    plain = table.remove_columns(source.audio)
    utterances = [
        _utterance(source, index, row, str(row[text]), _reader(encoded, index, source))
        for index, row in enumerate(plain)
        if source.scored(str(row[text] or ""))
    ]
    return corpus_of(source.repository, utterances, data, snapshot.name, source.language)


def _utterance(source: Source, index: int, row: dict[str, Any], text: str, audio: Callable[[], bytes]) -> Utterance:
    own = str(row[source.id])
    name = f"{index:06}-{own}" if source.numbered else own
    speaker = None
    if source.speaker is not None and row[source.speaker] is not None:
        speaker = str(row[source.speaker])
    elif source.speaker_of is not None:
        speaker = source.speaker_of(own)
    return Utterance(name, speaker, text, audio)


def _reader(table: Any, index: int, source: Source) -> Callable[[], bytes]:
    def read() -> bytes:
        data: bytes = table[index][source.audio]["bytes"]
        return data

    return read
