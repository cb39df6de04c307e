"""Calibration speech: which utterances, what the decoder is told, and which positions are padding.

The methods see tensors only. Utterances are drawn from a split that no test set shares; their audio is joined
until a window of the model is full, since short speech in a window of 30 s is mostly padding; what padding
is left is told to the methods, which leave it out of their statistics unless `padding = true`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from harness import datasets
from harness.config import Calibration, Decoding
from harness.datasets import Corpus
from harness.errors import ConfigError

if TYPE_CHECKING:
    from backends import CalibrationInput
    from harness.models import Recognizer


def calibration_corpus(calibration: Calibration, *, cached_only: bool = False) -> Corpus:
    """The utterances to calibrate on: the first so many by id, or with a `seed` as many at random.

    Raises:
        ConfigError: the split has fewer.
        DataError, HubUnreachableError: it cannot be read.
    """
    data = calibration.data
    if calibration.seed is None:
        data = data.model_copy(update={"limit": calibration.utterances})
    corpus = datasets.get(data.dataset).load(data, cached_only=cached_only)
    found = len(corpus.utterances)
    if found < calibration.utterances:
        raise ConfigError(f"calibration.utterances is {calibration.utterances}, but {data.label} has {found}")
    if calibration.seed is None:
        return corpus
    ordered = sorted(corpus.utterances, key=lambda u: u.id)
    chosen = np.random.default_rng(calibration.seed).permutation(found)[: calibration.utterances]
    return dataclasses.replace(corpus, utterances=tuple(ordered[i] for i in sorted(chosen)))


def calibration_inputs(recognizer: Recognizer, calibration: Calibration, decoding: Decoding) -> list[CalibrationInput]:
    """Teacher-forced batches for `backends.quantize`, on the model's device.

    Args:
        recognizer: in full precision; with `teacher = "model"` it transcribes the speech first.
        calibration: what to take.
        decoding: how the teacher decodes.
    """
    corpus = calibration_corpus(calibration, cached_only=True)
    waveforms = [utterance.waveform() for utterance in corpus.utterances]
    texts = [utterance.text for utterance in corpus.utterances]
    if calibration.teacher == "model":
        size = calibration.batch_size
        parts = [waveforms[i : i + size] for i in range(0, len(waveforms), size)]
        texts = [heard.text.strip() for part in parts for heard in recognizer.transcribe(part, decoding)]
    batches = recognizer.calibration_inputs(waveforms, texts, calibration.batch_size)
    return [dataclasses.replace(batch, lengths={}) for batch in batches] if calibration.padding else batches
