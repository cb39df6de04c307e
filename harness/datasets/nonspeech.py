"""Recordings without speech, made from a seed: what is transcribed of them should not be there."""

from __future__ import annotations

import io
from functools import partial

import numpy as np

from harness.datasets._base import Corpus, Extent, Utterance, check_split, corpus_of
from harness.datasets._channels import SAMPLE_RATE, mean_power
from harness.datasets._noises import generator, made
from harness.experiment.tables import Data

_VERSION = 1
"""Of how the recordings are made."""
_SECONDS = (0.3, 1, 3, 10, 30, 60)
_LEVELS = (-50, -40, -30, -20)
"""Of the mean power, in dB relative to full scale."""
_KINDS = ("white", "pink", "hum", "tones")
_EXTENT = Extent(
    len(_SECONDS) * (1 + len(_KINDS) * len(_LEVELS)), sum(_SECONDS) * (1 + len(_KINDS) * len(_LEVELS)) / 3600
)


class NonSpeech:
    """Digital silence, and noises, hum and tones of several levels, of .3 to 60 s each; every reference is empty."""

    name = "nonspeech"
    splits = ("test",)
    licence = "Apache-2.0, as the project that makes it."

    def extent(self, data: Data) -> Extent | None:
        """As it is made."""
        return _EXTENT

    def corpus(self, data: Data) -> str:
        """It has one split."""
        return self.name

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """Made with `seed`; `root` and `revision` do not apply."""
        check_split(data, self.splits)
        asked: list[tuple[str, float, int | None]] = [("silence", seconds, None) for seconds in _SECONDS]
        asked += [(kind, seconds, level) for kind in _KINDS for seconds in _SECONDS for level in _LEVELS]
        recordings = [_recording(data.seed, *one) for one in asked]
        return corpus_of(self.name, recordings, data, commit=f"made-{_VERSION}-seed-{data.seed}")


def _recording(seed: int, kind: str, seconds: float, level: int | None) -> Utterance:
    loudness = "" if level is None else f"{level}dB"
    name = f"{kind}{loudness}-{seconds:g}s"
    return Utterance(name, None, "", partial(_wav, seed, name, kind, seconds, level))


def _wav(seed: int, name: str, kind: str, seconds: float, level: int | None) -> bytes:
    """The recording as a file of 16 bits; what is beyond full scale is clipped."""
    import soundfile

    samples = np.zeros(round(seconds * SAMPLE_RATE))
    if level is not None:
        noise = made(kind, len(samples), generator(seed, name))
        samples = np.clip(noise * np.sqrt(10 ** (level / 10) / mean_power(noise)), -1, 1)
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


DATASET = NonSpeech()
