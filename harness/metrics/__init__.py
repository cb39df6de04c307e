"""Arithmetic on transcripts: normalisation, error counts, rates, runaway outputs."""

from harness.metrics.alignment import align
from harness.metrics.counts import ErrorRate, UtteranceCounts, count_errors
from harness.metrics.loops import is_loop
from harness.metrics.normalisation import Normaliser

__all__ = ["ErrorRate", "Normaliser", "UtteranceCounts", "align", "count_errors", "is_loop"]
