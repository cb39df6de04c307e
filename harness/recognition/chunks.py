"""Long audio in pieces that overlap, each heard by itself with timestamps, and their texts as one.

As transformers' pipeline does it (`chunk_length_s`, `return_timestamps`): a piece is a window, and begins two thirds of
one after the piece before, so that ten of Whisper's thirty seconds are heard twice. Where two texts that follow each
other meet, their timestamps and the words that they have in common decide. A piece that ends early is gone on with
where its timestamps ended. Without timestamps Whisper often ends in the
middle of a window that begins in the middle of speech: joined utterances of test-clean lost half of their words so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.datasets import SAMPLE_RATE, Waveform

_PRECISION = 0.02
"""Seconds between two timestamps."""


def pieces(waveform: Waveform, window: int) -> list[Waveform]:
    """Windows of so many samples, the last one what is left; what fits is one piece."""
    step = window - window // 3
    starts = range(0, max(len(waveform) - window + step, 1), step)
    return [waveform[start : start + window] for start in starts]


def merged(tokenizer: Any, texts: Sequence[Sequence[int]], samples: int, window: int) -> str:
    """The text of a recording of so many samples whose pieces have these tokens, timestamps among them.

    The search for where they meet is transformers' own, that of its pipeline.
    """
    step, length = window - window // 3, samples / SAMPLE_RATE
    starts = [place * step / SAMPLE_RATE for place in range(len(texts))]
    ends = [min(start + window / SAMPLE_RATE, length) for start in starts]
    shared = [0.0, *((end - start) / 2 for end, start in zip(ends, starts[1:], strict=False)), 0.0]
    outputs = [
        {"tokens": np.array([list(tokens)]), "stride": (end - start, left, right)}
        for tokens, start, end, left, right in zip(texts, starts, ends, shared, shared[1:], strict=False)
    ]
    cleans, tokenizer.clean_up_tokenization_spaces = tokenizer.clean_up_tokenization_spaces, False
    try:
        text, _ = tokenizer._decode_asr(
            outputs, return_timestamps=True, return_language=None, time_precision=_PRECISION
        )
    finally:
        tokenizer.clean_up_tokenization_spaces = cleans
    return str(text)
