"""Calibration speech: which utterances, from a split that no test set shares.

How they become tensors is the recogniser's business (`harness.recognition.calibrating`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from harness import datasets
from harness.datasets import Corpus, Waveform
from harness.errors import ConfigError
from harness.experiment.tables import Calibration


def calibration_corpus(calibration: Calibration, *, cached_only: bool = False) -> Corpus:
    """The utterances of one draw: the first so many by id, or with a `seed` as many at random.

    Raises:
        ConfigError: the split has fewer.
        DataError, HubUnreachableError: it cannot be read.
    """
    data = calibration.data
    ((seed, _),) = calibration.draws
    corpus = datasets.load(data, cached_only=cached_only)
    found = len(corpus.utterances)
    if found < calibration.utterances:
        raise ConfigError(f"calibration.utterances is {calibration.utterances}, but {data.label} has {found}")
    ordered = sorted(corpus.utterances, key=lambda u: u.id)
    if seed is None:
        return dataclasses.replace(corpus, utterances=tuple(ordered[: calibration.utterances]))
    chosen = np.random.default_rng(seed).permutation(found)[: calibration.utterances]
    return dataclasses.replace(corpus, utterances=tuple(ordered[i] for i in sorted(chosen)))


def noisy(waveform: Waveform, ratio_db: float) -> Waveform:
    """A waveform with white Gaussian noise, its own power `ratio_db` above the noise's; the same noise in every call.

    >>> quiet = np.ones(16000, np.float32)
    >>> round(10 * np.log10(1 / np.var(noisy(quiet, 10.0) - quiet)))
    10
    """
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    noise = np.random.default_rng(0).standard_normal(len(waveform)) * math.sqrt(power / 10 ** (ratio_db / 10))
    return (waveform + noise).astype(np.float32)
