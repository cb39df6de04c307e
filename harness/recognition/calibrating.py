"""Calibration speech as the inputs that quantization takes."""

from __future__ import annotations

import dataclasses

from backends import CalibrationInput
from harness.experiment.tables import Calibration, Decoding
from harness.recognition.models import Recognizer
from harness.resolution.calibration import calibration_corpus, noisy
from harness.resolution.languages import told


def calibration_inputs(recognizer: Recognizer, calibration: Calibration, decoding: Decoding) -> list[CalibrationInput]:
    """Teacher-forced batches for `backends.quantize`, on the model's device.

    Audio is joined until a window of the model is full, since short speech in a window of 30 s is mostly
    padding; what padding is left is told to the methods, which leave it out of their statistics unless
    `calibration.padding` is set.

    Args:
        recognizer: in full precision; with `teacher = "model"` it transcribes the speech first.
        calibration: what to take.
        decoding: how the teacher decodes.
    """
    corpus = calibration_corpus(calibration, cached_only=True)
    ((_, noise_db),) = calibration.draws
    clean = [utterance.waveform() for utterance in corpus.utterances]
    waveforms = clean if noise_db is None else [noisy(waveform, noise_db) for waveform in clean]
    texts = [utterance.text for utterance in corpus.utterances]
    if calibration.teacher == "model":
        size = calibration.batch_size
        languages = [told(utterance, calibration.data, decoding) for utterance in corpus.utterances]
        parts = [(waveforms[i : i + size], languages[i : i + size]) for i in range(0, len(waveforms), size)]
        texts = [t.text.strip() for part, own in parts for t in recognizer.transcribe(part, decoding, languages=own)]
    batches = recognizer.calibration_inputs(waveforms, texts, calibration.batch_size)
    return [dataclasses.replace(batch, lengths={}) for batch in batches] if calibration.padding else batches
