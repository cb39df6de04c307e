"""How likely a recogniser finds the reference, given the speech, and how far its answers are from the baseline's.

Measures beside WER with less noise: one hallucination loop changes a word error rate by more than many a quantization
does; the likelihood of the reference moves smoothly. What the decoder attends to is taken from the transcription, not
computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.recognition.attended import Attended
from harness.recognition.models import Recognizer

TOP = 64
"""Tokens that are kept of every answer of the baseline."""
_PLACES = 128
"""Whose logits are in memory at once: 50 MB in 64 bits with Whisper's vocabulary."""
_REST = 1e-7
"""Least probability of all tokens beyond the kept ones: below, a difference from 1 is rounding."""


@dataclass(frozen=True)
class Answers:
    """The likeliest tokens at every place of one reference.

    Attributes:
        tokens: (places, at most `TOP`), the likeliest first.
        log_probabilities: of these, the same shape, in nats.
    """

    tokens: Tensor
    log_probabilities: Tensor


@dataclass(frozen=True)
class Likelihood:
    """Of one reference, teacher-forced.

    Attributes:
        nll: negative log-likelihood in nats.
        tokens: how many, the end-of-text included.
        same_top: at how many of these the likeliest token is the baseline's; `None` where that is not at hand.
        divergence: at every place, at least so many nats from the baseline (see `divergences`).
        answers: what the model answers itself.
    """

    nll: float = 0.0
    tokens: int = 0
    same_top: int | None = None
    divergence: tuple[float, ...] = ()
    answers: Answers | None = None


def reference_likelihoods(
    recognizer: Recognizer,
    speech: Attended,
    prompt: Sequence[int],
    texts: Sequence[str],
    expected: Sequence[Answers | None],
) -> list[Likelihood]:
    """Teacher-forced likelihood of reference texts.

    Args:
        recognizer: the decoder of its model is run once, without the encoder.
        speech: what the decoder attended to in the transcription, an utterance for each text.
        prompt: tokens that the decoder starts with; they are given, not judged.
        texts: as the corpus writes them; in capitals, they are written small.
        expected: what the baseline answers, for each text; `None` where that is not at hand.
    """
    rows = [recognizer.reference_tokens(text, prompt) for text in texts]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(recognizer.model.device)
    with torch.no_grad():
        hidden = recognizer.model.model(**speech.arguments(), decoder_input_ids=tokens[:, :-1]).last_hidden_state
        judged = [states[len(prompt) - 1 : len(row) - 1] for states, row in zip(hidden, rows, strict=True)]
        return _answers(recognizer.model, torch.cat(judged), [row[len(prompt) :] for row in rows], expected)


def _answers(
    model: Any, hidden: Tensor, targets: Sequence[Tensor], expected: Sequence[Answers | None]
) -> list[Likelihood]:
    """One likelihood for each text, from the decoder's states at all their places, (places, width)."""
    wanted = torch.cat(list(targets)).to(hidden.device)
    width = min(TOP, model.config.vocab_size)
    known = [_kept(e, (len(target), width), hidden.device) for e, target in zip(expected, targets, strict=True)]
    compared = torch.cat([tokens for tokens, _ in known]), torch.cat([logs for _, logs in known])
    parts = [
        _judged(model, *part)
        for part in zip(*(whole.split(_PLACES) for whole in (hidden, wanted, *compared)), strict=True)
    ]
    nll, same, apart, tops, logs = (torch.cat(found).cpu() for found in zip(*parts, strict=True))
    sizes = [len(target) for target in targets]
    by_text = zip(*(found.split(sizes) for found in (nll, same, apart, tops, logs)), expected, strict=True)
    return [
        Likelihood(
            float(n.sum()),
            len(n),
            None if e is None else int(s.sum()),
            () if e is None else tuple(d.tolist()),
            Answers(t, p),
        )
        for n, s, d, t, p, e in by_text
    ]


def _kept(answers: Answers | None, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The baseline's answers, or stand-ins of the same shape that are compared and not told."""
    if answers is None:
        nothing = torch.zeros(shape)
        return nothing.long().to(device), nothing.to(device)
    return answers.tokens.long().to(device), answers.log_probabilities.to(device)


def _judged(model: Any, hidden: Tensor, wanted: Tensor, tokens: Tensor, logs: Tensor) -> tuple[Tensor, ...]:
    """Of some places: negative log-likelihood, whether the top is the baseline's, divergence, and the own top."""
    found = torch.log_softmax(model.get_output_embeddings()(hidden), -1, dtype=torch.float64)
    nll = -found.gather(1, wanted[:, None])[:, 0]
    top = found.topk(tokens.shape[1], -1)
    same = top.indices[:, 0] == tokens[:, 0]
    apart = divergences(logs.double(), found.gather(1, tokens))
    return nll, same, apart, top.indices.int(), top.values.float()


def divergences(expected: Tensor, found: Tensor) -> Tensor:
    """Lower bound of the Kullback-Leibler divergence of two models' answers at every place, nats, (places,).

    All tokens that were not kept count as one: sum of p log(p / q) over the kept tokens, plus the same for what is
    left of both to 1. By the log-sum inequality (Cover & Thomas 2006, theorem 2.7.1) the whole divergence is not less.

    Args:
        expected: log-probabilities of the kept tokens in the baseline, (places, kept).
        found: of the same tokens in the other model.
    """
    kept = (expected.exp() * (expected - found)).sum(1)
    rest = [(1 - logs.exp().sum(1)).clamp(min=_REST) for logs in (expected, found)]
    return (kept + rest[0] * (rest[0] / rest[1]).log()).clamp(min=0)


def save_answers(path: Path, answers: Mapping[str, Answers]) -> None:
    """Write the answers to some references, by the ids of their utterances."""
    tensors = {f"{name}.{what}": tensor for name, own in answers.items() for what, tensor in vars(own).items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def load_answers(path: Path, ids: Sequence[str]) -> dict[str, Answers]:
    """The answers that `save_answers` wrote, as far as there are any for these ids."""
    with safe_open(path, framework="pt") as file:
        there = set(file.keys())
        return {
            name: Answers(*(file.get_tensor(f"{name}.{what.name}") for what in fields(Answers)))
            for name in ids
            if f"{name}.tokens" in there
        }
