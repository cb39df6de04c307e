"""What a model answers to teacher-forced batches, and how far another's answers are from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from backends import CalibrationInput


@dataclass(frozen=True)
class Loss:
    """Of a model's answers, means over token positions that count, in nats.

    Attributes:
        divergence: Kullback-Leibler divergence from what full precision answers.
        nll: negative log-likelihood of the text beyond full precision's.
        agreement: share of positions where the likeliest token is full precision's.
    """

    divergence: float
    nll: float
    agreement: float


class Answers:
    """Full precision's answers, kept to compare others with; (positions, tokens) of log-probabilities a batch.

    Args:
        model: in full precision.
        batches: teacher-forced, with `decoder_input_ids`.
    """

    def __init__(self, model: Any, batches: Sequence[CalibrationInput]) -> None:
        self._batches = batches
        self._expected = [log_probabilities(model, batch) for batch in batches]

    def loss(self, model: Any) -> Loss:
        """How far `model` is from them."""
        divergence = nll = agreement = count = 0.0
        for batch, expected in zip(self._batches, self._expected, strict=True):
            found = log_probabilities(model, batch)
            divergence += float((expected.exp() * (expected - found)).sum())
            tokens, valid = _next_tokens(batch)
            chosen = tokens[valid][:, None]
            apart = (expected - found)[_position_of(batch, valid)].gather(1, chosen.to(expected.device))
            nll += float(apart.sum())
            agreement += float((expected.argmax(-1) == found.argmax(-1)).sum())
            count += len(expected)
        return Loss(divergence / count, nll / count, agreement / count)


def run(model: Any, batch: CalibrationInput) -> Any:
    """The model's output for a batch, without a cache and without gradients."""
    assert isinstance(batch.inputs, Mapping)
    with torch.no_grad():
        return model(**batch.inputs, use_cache=False)


@contextmanager
def recorded(model: Any, names: Iterable[str]) -> Iterator[dict[str, tuple[Any, Tensor]]]:
    """First input and (first) output of modules during the block of code, by name."""
    seen: dict[str, tuple[Any, Tensor]] = {}

    def keep(name: str, args: tuple[Any, ...], output: Any) -> None:
        seen[name] = (args[0] if args else None, output[0] if isinstance(output, tuple) else output)

    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, args, output, name=name: keep(name, args, output))
        for name in names
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def log_probabilities(model: Any, batch: CalibrationInput) -> Tensor:
    """(positions that count, tokens) in float32."""
    logits = run(model, batch).logits
    return torch.log_softmax(batch.counted(logits).flatten(0, -2).float(), -1)


def _next_tokens(batch: CalibrationInput) -> tuple[Tensor, Tensor]:
    """The token after every position, and where there is one that counts; both (batch, positions)."""
    tokens: Tensor = batch.inputs["decoder_input_ids"]  # type: ignore[index, call-overload]
    mask = batch.mask("decoder", tokens.shape[1])
    counts = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    following = torch.zeros_like(counts)
    following[:, :-1] = counts[:, 1:]
    return tokens.roll(-1, dims=1), following


def _position_of(batch: CalibrationInput, chosen: Tensor) -> Tensor:
    """Places of chosen positions, (batch, positions), among those that count."""
    mask = batch.mask("decoder", chosen.shape[1])
    return chosen.flatten() if mask is None else chosen[mask]


def swap(model: Any, name: str, module: nn.Module) -> nn.Module:
    """Put `module` in the place of the one called `name`; returns that one."""
    before: nn.Module = model.get_submodule(name)
    model.set_submodule(name, module)
    return before
