"""How likely a recogniser finds the reference, given the speech: a measure beside WER with less noise.

One runaway transcript changes a word error rate by more than many a quantization does; the likelihood of
the reference moves smoothly. The encoder is not run again: its states are taken from the transcription.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.models import Recognizer

_IGNORED = -100


@dataclass(frozen=True)
class Likelihood:
    """Of one reference: its negative log-likelihood in nats, and of how many tokens, the end-of-text included."""

    nll: float
    tokens: int


@contextmanager
def encoder_states(model: Any) -> Iterator[list[Any]]:
    """A list that holds what the encoder returned first in the block, for a whole batch."""
    first: list[Any] = []

    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        first.append(output)
        hook.remove()

    hook = model.get_encoder().register_forward_hook(keep)
    try:
        yield first
    finally:
        hook.remove()


def reference_likelihoods(
    recognizer: Recognizer, states: Any, prompt: Sequence[int], texts: Sequence[str]
) -> list[Likelihood]:
    """Teacher-forced likelihood of reference texts.

    Args:
        recognizer: its model is run once, without the encoder.
        states: of `encoder_states`, a row for each text.
        prompt: tokens that the decoder starts with; they are given, not judged.
        texts: as the corpus writes them; in capitals, they are written small.
    """
    rows = [recognizer.reference_tokens(text, prompt) for text in texts]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(recognizer.model.device)
    expected = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_IGNORED).to(tokens.device)[:, 1:]
    expected[:, : len(prompt) - 1] = _IGNORED
    with torch.no_grad():
        logits = recognizer.model(encoder_outputs=states, decoder_input_ids=tokens[:, :-1], use_cache=False).logits
    nll = nn.functional.cross_entropy(
        logits.float().transpose(1, 2), expected, ignore_index=_IGNORED, reduction="none"
    ).sum(1)
    return [Likelihood(float(n), len(row) - len(prompt)) for n, row in zip(nll, rows, strict=True)]
