"""Speech corpora behind one face. Adding one is adding one file that exposes `DATASET`.

Listing a corpus reads names, transcripts and file sizes, no audio; audio is decoded when asked for.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from backends.core.errors import did_you_mean
from harness.datasets._audio import Waveform, decoded, seconds_of
from harness.errors import DataError
from harness.experiment.tables import DETECT, Data


def check_split(data: Data, splits: Collection[str]) -> None:
    """Refuse a split that is not one of these.

    Raises:
        DataError: with a near one, if there is one.
    """
    if data.split not in splits:
        near = did_you_mean(data.split, splits)
        raise DataError(f"{data.dataset}: split {data.split!r} is not one of {', '.join(splits)}{near}")


def root_of(data: Data, what: str = "folder") -> Path:
    """The directory that `data.root` names.

    Raises:
        DataError: none is named, or there is none; `what` it should be is said.
    """
    if data.root is None:
        raise DataError(f'data: the dataset {data.dataset} needs root = "path/to/{what}"')
    root = Path(data.root).expanduser()
    if not root.is_dir():
        wrong = "it is a file" if root.is_file() else "there is no such directory"
        raise DataError(f"{root}: {wrong}; data.root names the directory")
    return root


@dataclass(frozen=True)
class Utterance:
    """One test item.

    Attributes:
        id: unique in its corpus.
        speaker: whom statistics are blocked by; `None` where that is not known.
        text: the reference as the corpus writes it.
        audio: a file, or a function that returns the bytes of one.
        language: code of what is spoken; `None` where that is not said.
        parts: ids of the utterances that it is joined from, or of the one that it is cut from; empty where it is one.
        sources: these utterances.
    """

    id: str
    speaker: str | None
    text: str
    audio: Path | Callable[[], bytes]
    language: str | None = None
    parts: tuple[str, ...] = ()
    sources: tuple[Utterance, ...] = field(default=(), repr=False)

    def waveform(self) -> Waveform:
        """Decode to float32 mono at 16 kHz, shape (samples,); several channels are averaged.

        What the file is called does not matter.

        Raises:
            DataError: the audio cannot be decoded, is shorter than it says, empty, or has samples that are no numbers.
        """
        return decoded(self._source, self._origin())

    def seconds(self) -> float:
        """Length of the audio, from its header.

        Raises:
            DataError: it has none that can be read.
        """
        return seconds_of(self._source, self._origin())

    def digest(self) -> str:
        """SHA-256 of the recording as it is stored.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with self._source() as source:
                return hashlib.file_digest(source, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{self._origin()}: cannot be read: {error.strerror}") from None

    def _source(self) -> Any:
        """The opened file, so that its contents tell what it is, not its name."""
        return self.audio.open("rb") if isinstance(self.audio, Path) else io.BytesIO(self.audio())

    def _origin(self) -> str:
        return str(self.audio) if isinstance(self.audio, Path) else f"utterance {self.id}"


@dataclass(frozen=True)
class Corpus:
    """The utterances of one split, with what identifies them.

    Attributes:
        id: name of the data, such as `openslr/librispeech_asr`.
        utterances: in the order of their ids.
        commit: of the hub; of what is made, the version of how it is made and the seed; `None` for local data.
    """

    id: str
    utterances: tuple[Utterance, ...]
    commit: str | None = None

    @cached_property
    def revision(self) -> str:
        """Commit of the hub, or hash of local transcripts, speakers and recordings, which are read when it is asked."""
        return self.commit or _contents_hash(self.utterances, self.digests)

    @property
    def condition(self) -> dict[str, Any]:
        """What identifies what is done to the recordings, as JSON values; empty where nothing is."""
        return {}

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of every recording."""
        return tuple(utterance.digest() for utterance in self.utterances)


@dataclass(frozen=True)
class Extent:
    """How much speech there is: recordings, and their hours."""

    utterances: int
    hours: float

    @property
    def seconds(self) -> float:
        """Of a recording on average."""
        return 3600 * self.hours / self.utterances


class Dataset(Protocol):
    """A corpus that can be named in an experiment file.

    It may have an attribute `licence`, a text: the terms under which its reference texts are passed on, and who is to
    be named. `harness.publish` puts it beside them. And an attribute `splits`: the names of all splits that it has
    where no `root` is given.
    """

    name: str

    def extent(self, data: Data) -> Extent | None:
        """How much a whole split is, without its limit; `None` where it is not known without reading it."""
        ...

    def corpus(self, data: Data) -> str:
        """The corpus that a split is of; the splits of one corpus count once in a mean over corpora."""
        ...

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """List the utterances that `data` asks for, `max_seconds` and `limit` applied; its condition is not.

        With `cached_only` without the network.

        Raises:
            DataError: files are missing or empty, or the split is unknown.
            HubUnreachableError: neither the hub nor the cache has it.
        """
        ...


def corpus_of(
    name: str, utterances: list[Utterance], data: Data, commit: str | None = None, language: str | None = None
) -> Corpus:
    """Order, choose and check utterances, and make a corpus of them.

    Those that do not say it are in the `language` of the corpus, or in that of `data`.

    Raises:
        DataError: there are none, ids repeat, a file is missing, or `data` says another language than the corpus; with
            `max_seconds`, a length cannot be read.
    """
    named = None if data.language == DETECT else data.language
    if language and named and named != language:
        raise DataError(f"{name}: it is in {language!r}, and data.language is {named!r}; leave that out")
    if language or named:
        utterances = [dataclasses.replace(u, language=u.language or language or named) for u in utterances]
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if data.max_seconds is not None:
        ordered = [utterance for utterance in ordered if utterance.seconds() <= data.max_seconds]
    if data.limit is not None:
        ordered = balanced(ordered, data.limit, data.seed)
    if not ordered:
        short = "" if data.max_seconds is None else f" of at most {data.max_seconds:g} s"
        raise DataError(f"{name}: there is no utterance{short} in split {data.split!r}")
    repeated = [a.id for a, b in itertools.pairwise(ordered) if a.id == b.id]
    if repeated:
        raise DataError(f"{name}: the id {repeated[0]!r} occurs twice")
    paths: dict[Path, str] = {}
    for utterance in ordered:
        if isinstance(utterance.audio, Path):
            other = paths.setdefault(utterance.audio.absolute().resolve(), utterance.id)
            if other != utterance.id:
                raise DataError(f"{name}: {other!r} and {utterance.id!r} are one recording; take one of the rows away")
            if not utterance.audio.is_file():
                raise DataError(
                    f"{utterance.audio}: the audio file of utterance {utterance.id} is missing{_near(utterance.audio)}"
                )
    return Corpus(name, tuple(ordered), commit)


def _near(path: Path) -> str:
    """A hint at a file of that name with another suffix, if there is one."""
    there = sorted(path.parent.glob(f"{glob.escape(path.name)}.*")) + sorted(
        path.parent.glob(f"{glob.escape(path.stem)}.*")
    )
    return f"; there is {there[0].name}" if there else ""


def balanced(utterances: Sequence[Utterance], count: int, seed: int) -> list[Utterance]:
    """At most `count` of the utterances, in their order: from every speaker as many as from any other, while there are.

    Speakers and their utterances are shuffled once, so that a larger sample holds the smaller ones. One whose speaker
    is not known is a speaker of its own.
    """
    rng = np.random.default_rng(seed)
    by_speaker: dict[tuple[str | None, str], list[Utterance]] = {}
    for utterance in utterances:
        alone = utterance.id if utterance.speaker is None else ""
        by_speaker.setdefault((utterance.speaker, alone), []).append(utterance)
    speakers = [[own[i] for i in rng.permutation(len(own))] for own in by_speaker.values()]
    shuffled = [speakers[i] for i in rng.permutation(len(speakers))]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*shuffled))
    chosen = {utterance.id for utterance in itertools.islice((u for u in turns if u is not None), count)}
    return [utterance for utterance in utterances if utterance.id in chosen]


def _contents_hash(utterances: Sequence[Utterance], digests: Sequence[str]) -> str:
    """Hash of ids, speakers, transcripts and recordings."""
    digest = hashlib.sha256()
    for utterance, recording in zip(utterances, digests, strict=True):
        about = [utterance.id, utterance.speaker, utterance.text, recording]
        digest.update(f"{json.dumps(about)}\n".encode())
    return digest.hexdigest()[:16]


def read_transcript(path: Path) -> str:
    """The text of a transcript file, with the ends of its lines as they are.

    Raises:
        DataError: it cannot be read as UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}; save it as UTF-8") from None
