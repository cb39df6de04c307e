"""Corpora under a condition: the recordings as they are, changed when they are decoded.

What is done to an utterance depends on the condition, the seed, the utterance's id and what noise is taken from, never
on a batch or an order. In this order: speed, padding, room, noise, gain, telephone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backends.core.errors import did_you_mean
from harness.datasets import _channels as channels
from harness.datasets._base import Corpus, Utterance
from harness.datasets._noises import generator, made
from harness.errors import DataError
from harness.experiment.conditions import NOISES, Condition
from harness.experiment.tables import Data

VERSION = 1
"""Of how conditions are made; part of the identity of what has one."""
TALKERS = 6
NOMINAL_DB = -26.0
"""Level of active speech relative to full scale that noise is set against where there is only silence."""
_AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


@dataclass(frozen=True, kw_only=True)
class Conditioned(Utterance):
    """An utterance as it is under a condition.

    Attributes:
        source: what the condition takes from elsewhere.
    """

    source: Source

    def waveform(self) -> channels.Samples:
        """As it is decoded, under the condition.

        Raises:
            DataError: it, or what its noise is taken from, cannot be decoded.
        """
        return self.source.changed(self, super().waveform())

    def seconds(self) -> float:
        """Length under the condition, from the header.

        Raises:
            DataError: it has none that can be read.
        """
        return self.source.condition.seconds(super().seconds())


@dataclass(frozen=True)
class ConditionedCorpus(Corpus):
    """A corpus under a condition.

    Attributes:
        source: what the condition takes from elsewhere.
    """

    source: Source | None = None

    @property
    def condition(self) -> dict[str, Any]:
        """What identifies the condition."""
        return {} if self.source is None else self.source.identity


@dataclass(frozen=True)
class Source:
    """A condition with the recordings that its noise is taken from.

    Attributes:
        condition: what is done.
        seed: of noises and rooms.
        split: gives the whole split, whose other speakers babble.
    """

    condition: Condition
    seed: int
    split: Callable[[], Corpus]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides what is done, as JSON values; of recordings what is in them, not where they lie."""
        found = {"version": VERSION, **self.condition.changed}
        if self.condition.noise_db is not None or self.condition.reverb:
            found["seed"] = self.seed
        if self.condition.noise == "babble":
            found["noise_revision"] = self._split.revision
        elif self.condition.noise not in NOISES:
            digests = sorted(recording.digest() for recording in self._recordings)
            found["noise"] = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        return found

    def changed(self, utterance: Utterance, waveform: channels.Samples) -> channels.Samples:
        """Samples of an utterance under the condition, float32."""
        asked, found = self.condition, waveform
        if asked.speed != 1:
            found = channels.faster(found, asked.speed)
        if asked.pad_seconds:
            found = np.pad(found, round(asked.pad_seconds * channels.SAMPLE_RATE))
        if asked.reverb:
            found = channels.reverberated(found, asked.reverb, generator(self.seed, utterance.id, "reverb"))
        if asked.noise_db is not None:
            found = found + self._noise(utterance, found, asked.noise_db)
        if asked.gain_db:
            found = channels.amplified(found, asked.gain_db)
        if asked.telephone:
            found = channels.telephoned(found)
        return found.astype(np.float32)

    def _noise(self, utterance: Utterance, speech: channels.Samples, ratio_db: float) -> channels.Samples:
        """Noise so far below the power of the active speech; where there is only silence, below the nominal level."""
        kind = self.condition.noise if self.condition.noise in NOISES else "recording"
        rng = generator(self.seed, utterance.id, kind)
        noise = self._of_kind(utterance, len(speech), rng)
        power = channels.mean_power(noise)
        if not power:
            raise DataError(
                f"utterance {utterance.id}: its noise ({self.condition.noise}) is silent; take another seed"
            )
        wanted = (channels.active_power(speech) or 10 ** (NOMINAL_DB / 10)) / 10 ** (ratio_db / 10)
        return noise * np.sqrt(wanted / power)

    def _of_kind(self, utterance: Utterance, samples: int, rng: np.random.Generator) -> channels.Samples:
        if self.condition.noise == "babble":
            return np.sum(list(self._talkers(utterance, samples, rng)), axis=0)
        if self.condition.noise in NOISES:
            return made(self.condition.noise, samples, rng)
        recordings = self._recordings
        return _piece(recordings[rng.integers(len(recordings))].waveform(), samples, rng)

    def _talkers(self, utterance: Utterance, samples: int, rng: np.random.Generator) -> Iterator[channels.Samples]:
        """Pieces of utterances of others, each of power 1; where speakers are not known, of any other utterance."""
        own = {utterance.id, *utterance.parts}
        others = [
            other
            for other in self._split.utterances
            if other.id not in own and (other.speaker is None or other.speaker != utterance.speaker)
        ]
        if len(others) < TALKERS:
            raise DataError(
                f"utterance {utterance.id}: babble needs {TALKERS} utterances of other speakers, and the split has "
                f"{len(others)}; take another noise"
            )
        for place in rng.choice(len(others), TALKERS, replace=False):
            piece = _piece(others[place].waveform(), samples, rng).astype(np.float64)
            yield piece / np.sqrt(channels.mean_power(piece) or 1.0)

    @cached_property
    def _split(self) -> Corpus:
        return self.split()

    @cached_property
    def _recordings(self) -> list[Utterance]:
        """The recordings of the directory, in the order of their contents, so that their names do not matter."""
        check_noise(self.condition.noise)
        paths = _recordings_of(Path(self.condition.noise).expanduser())
        return sorted((Utterance(path.name, None, "", path) for path in paths), key=lambda one: one.digest())


def conditioned(corpus: Corpus, data: Data, split: Callable[[], Corpus]) -> Corpus:
    """The corpus under the condition of `data`; itself where there is none.

    Raises:
        DataError: the noise is neither a kind of noise nor a directory of recordings.
    """
    if not data.condition.name:
        return corpus
    check_noise(data.condition.noise)
    source = Source(data.condition, data.seed, split)
    utterances = tuple(Conditioned(**_fields(utterance), source=source) for utterance in corpus.utterances)
    return ConditionedCorpus(corpus.id, utterances, corpus.commit, source)


def check_noise(noise: str) -> None:
    """Refuse what is neither a kind of noise nor a directory of recordings.

    Raises:
        DataError: says what is missing.
    """
    if noise in NOISES:
        return
    directory = Path(noise).expanduser()
    if not directory.is_dir():
        known = f"{', '.join(NOISES)} or a directory of recordings"
        raise DataError(f"data.noise: {noise!r} is none of {known}{did_you_mean(noise, NOISES)}")
    if not _recordings_of(directory):
        raise DataError(f"data.noise: {directory} has no recordings ({', '.join(_AUDIO)})")


def _recordings_of(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.suffix.lower() in _AUDIO and path.is_file()]


def _piece(waveform: channels.Samples, samples: int, rng: np.random.Generator) -> channels.Samples:
    """So many samples from a random place on, from the beginning again at the end."""
    return np.resize(np.roll(waveform, -int(rng.integers(len(waveform)))), samples)


def _fields(utterance: Utterance) -> Mapping[str, Any]:
    return {field.name: getattr(utterance, field.name) for field in fields(Utterance)}
