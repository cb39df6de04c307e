"""An utterance as it is stored: what it says, what was transcribed, and its errors."""

from __future__ import annotations

from typing import Any

from harness.datasets import SAMPLE_RATE, Utterance
from harness.metrics import Scorer
from harness.recognition.features import PreparedBatch
from harness.recognition.likelihood import Likelihood
from harness.recognition.models import Transcript


def row_of(
    utterance: Utterance,
    transcript: Transcript,
    reference: Likelihood,
    speech: PreparedBatch,
    place: int,
    scorer: Scorer,
    language: str | None,
    longest: int | None,
) -> dict[str, Any]:
    """One utterance as it is stored; one that cannot be decoded was silence to the model, and counts nowhere.

    Args:
        utterance, transcript, reference: what it says, and what the model found.
        speech, place: its batch, and where it is in it.
        scorer: of its test set.
        language: which is spoken.
        longest: samples that are heard at most, where longer recordings are cut.
    """
    error = speech.errors.get(place)
    samples = 0 if error else speech.samples[place]
    return {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "language": language,
        "detected": None if error else transcript.detected,
        **scorer.scores(utterance.text, "" if error else transcript.text, language),
        "tokens": [] if error else list(transcript.tokens),
        "seconds": samples / SAMPLE_RATE,
        "heard_seconds": min(samples, longest or samples) / SAMPLE_RATE,
        "estimated_snr_db": speech.estimated_snr_db[place],
        "reference_nll": reference.nll,
        "reference_tokens": reference.tokens,
        "reference_same_top": None if error else reference.same_top,
        "reference_divergence": None if error or not reference.divergence else sum(reference.divergence),
        "error": error,
    }
