"""How likely a recogniser finds the reference, given the speech: a measure beside WER with less noise.

One runaway transcript changes a word error rate by more than many a quantization does; the likelihood of
the reference moves smoothly. What the decoder attends to is taken from the transcription, not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from harness.attended import Attended
from harness.models import Recognizer

_IGNORED = -100


@dataclass(frozen=True)
class Likelihood:
    """Of one reference: its negative log-likelihood in nats, and of how many tokens, the end-of-text included."""

    nll: float
    tokens: int


def reference_likelihoods(
    recognizer: Recognizer, speech: Attended, prompt: Sequence[int], texts: Sequence[str]
) -> list[Likelihood]:
    """Teacher-forced likelihood of reference texts.

    Args:
        recognizer: its model is run once, without the encoder.
        speech: what the decoder attended to in the transcription, an utterance for each text.
        prompt: tokens that the decoder starts with; they are given, not judged.
        texts: as the corpus writes them; in capitals, they are written small.
    """
    rows = [recognizer.reference_tokens(text, prompt) for text in texts]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(recognizer.model.device)
    expected = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_IGNORED).to(tokens.device)[:, 1:]
    expected[:, : len(prompt) - 1] = _IGNORED
    with torch.no_grad():
        logits = recognizer.model(**speech.arguments(), decoder_input_ids=tokens[:, :-1]).logits
    nll = nn.functional.cross_entropy(
        logits.float().transpose(1, 2), expected, ignore_index=_IGNORED, reduction="none"
    ).sum(1)
    return [Likelihood(float(n), len(row) - len(prompt)) for n, row in zip(nll, rows, strict=True)]
