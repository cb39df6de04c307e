"""Eight tones that nobody could mistake for speech: a data set whose audio is made when it is asked for."""

import io

import numpy as np
import soundfile

from harness.datasets import Extent, Utterance, corpus_of


class Tones:
    """One split, `test`."""

    name = "tones"

    def extent(self, data):
        return Extent(8, 8 / 3600)

    def corpus(self, data):
        return "tones"

    def load(self, data, *, cached_only=False):
        utterances = [Utterance(f"tone-{i}", f"horn-{i % 2}", "NOTHING SAID", lambda i=i: tone(i)) for i in range(8)]
        return corpus_of("tones", utterances, data, commit="1")


def tone(number):
    """The bytes of a WAV file, a second of a sine."""
    file = io.BytesIO()
    samples = 0.1 * np.sin(2 * np.pi * 110 * (number + 1) * np.arange(16_000) / 16_000)
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


DATASET = Tones()
