"""Arithmetic on transcripts: normalisation, error counts, rates, hallucination loops."""

from harness.metrics.alignment import align
from harness.metrics.counts import ErrorRate, UtteranceCounts, count_errors
from harness.metrics.loops import is_loop
from harness.metrics.noise import estimated_snr
from harness.metrics.normalisation import NORMALIZERS, Normaliser
from harness.metrics.scores import AUTO, UNSPACED, Scorer, scores

__all__ = [
    "AUTO",
    "NORMALIZERS",
    "UNSPACED",
    "ErrorRate",
    "Normaliser",
    "Scorer",
    "UtteranceCounts",
    "align",
    "count_errors",
    "estimated_snr",
    "is_loop",
    "scores",
]
