"""Speech corpora behind one face. Adding one is adding one file that exposes `DATASET`.

Listing a corpus reads names, transcripts and file sizes, no audio; audio is decoded when asked for.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.config import Data
from harness.errors import DataError

SAMPLE_RATE = 16_000
Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Utterance:
    """One test item.

    Attributes:
        id: unique in its corpus.
        speaker: whom statistics are blocked by; the id itself where speakers are unknown.
        text: the reference as the corpus writes it.
        audio: a file, or a function that returns the bytes of one.
    """

    id: str
    speaker: str
    text: str
    audio: Path | Callable[[], bytes]

    def waveform(self) -> Waveform:
        """Decode to float32 mono at 16 kHz, shape (samples,); several channels are averaged.

        Raises:
            DataError: the audio cannot be decoded.
        """
        import soundfile
        import soxr

        try:
            samples, rate = soundfile.read(self._source(), dtype="float32", always_2d=True)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self._origin()}: the audio cannot be decoded: {error}") from None
        mono = samples.mean(axis=1)
        resampled = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)
        waveform: Waveform = np.ascontiguousarray(resampled, dtype=np.float32)
        return waveform

    def seconds(self) -> float:
        """Length of the audio, from its header.

        Raises:
            DataError: it has none that can be read.
        """
        import soundfile

        try:
            return float(soundfile.info(self._source()).duration)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self._origin()}: the audio cannot be decoded: {error}") from None

    def _source(self) -> Any:
        return self.audio if isinstance(self.audio, Path) else io.BytesIO(self.audio())

    def _origin(self) -> str:
        return str(self.audio) if isinstance(self.audio, Path) else f"utterance {self.id}"


@dataclass(frozen=True)
class Corpus:
    """The utterances of one split, with what identifies them.

    Attributes:
        id: name of the data, such as `openslr/librispeech_asr`.
        utterances: in the order of their ids.
        commit: of the hub; `None` for local data.
    """

    id: str
    utterances: tuple[Utterance, ...]
    commit: str | None = None

    @cached_property
    def revision(self) -> str:
        """Commit of the hub, or hash of local transcripts and recordings; these are read when it is asked for."""
        return self.commit or _contents_hash(self.utterances)


class Dataset(Protocol):
    """A corpus that can be named in an experiment file."""

    name: str

    def hours(self, data: Data) -> float | None:
        """Hours of speech in a split, as far as known without reading it."""
        ...

    def corpus(self, data: Data) -> str:
        """The corpus that a split is of; the splits of one corpus count once in a mean over corpora."""
        ...

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """List the utterances that `data` asks for, `limit` applied; with `cached_only` without the network.

        Raises:
            DataError: files are missing or empty, or the split is unknown.
            HubUnreachableError: neither the hub nor the cache has it.
        """
        ...


def corpus_of(name: str, utterances: list[Utterance], data: Data, commit: str | None = None) -> Corpus:
    """Order, limit and check utterances, and make a corpus of them.

    Raises:
        DataError: there are none, ids repeat, or a file is missing or unreadable.
    """
    ordered = sorted(utterances, key=lambda utterance: utterance.id)[: data.limit]
    if not ordered:
        raise DataError(f"{name}: there is no utterance in split {data.split!r}")
    repeated = [a.id for a, b in itertools.pairwise(ordered) if a.id == b.id]
    if repeated:
        raise DataError(f"{name}: the id {repeated[0]!r} occurs twice")
    for utterance in ordered:
        _check_file(utterance)
    return Corpus(name, tuple(ordered), commit)


def _check_file(utterance: Utterance) -> None:
    import soundfile

    if not isinstance(utterance.audio, Path):
        return
    if not utterance.audio.is_file():
        raise DataError(f"{utterance.audio}: the audio file of utterance {utterance.id} is missing")
    try:
        soundfile.info(utterance.audio)
    except (OSError, RuntimeError):
        raise DataError(
            f"{utterance.audio}: not readable as audio: replace the file or drop utterance {utterance.id}"
        ) from None


def _contents_hash(utterances: tuple[Utterance, ...]) -> str:
    """Hash of ids, transcripts and recordings."""
    digest = hashlib.sha256()
    for utterance in utterances:
        audio = utterance.audio.read_bytes() if isinstance(utterance.audio, Path) else utterance.audio()
        digest.update(f"{utterance.id}\t{utterance.text}\t{hashlib.sha256(audio).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def read_transcript(path: Path) -> str:
    """The text of a transcript file.

    Raises:
        DataError: it cannot be read as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from None
