"""How much a model's answers, or its encoder's states, suffer from a change of one layer's weight, to second order.

For a small change D of a weight, the Kullback-Leibler divergence of a model's answers from what they were is
1/2 E[<grad log p(y), D>^2], the expectation being over inputs and over answers y drawn from the model itself: the
quadratic form of the Fisher information (Amari 1998, "Natural Gradient Works Efficiently in Learning", section 3;
with diagonal curvature in Dong et al. 2019, arXiv 1911.03852). One backward pass serves all layers and all changes.

Answers to forced text hide what a worse encoder does, since every word before is given. The states of the encoder are
therefore judged on their own too: by their squared change, weighted by how much attention the decoder pays to each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.core.base import CalibrationInput
from backends.ptq._engine import forward

DRAWS = 32
"""At least so many answers are drawn, over all sequences; the estimate's standard error is sqrt(2 / draws) of it."""
Matrix = NDArray[np.float64]


def expected_harm(
    model: nn.Module, changes: Mapping[str, Sequence[Tensor]], items: Sequence[CalibrationInput]
) -> Matrix:
    """Harm of every change on its own, (layers, changes of a layer): nats a position, or squared error a value.

    Args:
        model: in full precision; not changed.
        changes: of the weights of linear layers, by name, (rows, columns) each; as many for every layer.
        items: at least one batch; every sequence is answered for itself.

    For a model without logits the harm is the mean squared change of its first output, by Hutchinson's estimate:
    the squared slope along a random direction of the output.
    """
    return _second_order(model, changes, items, _answer)


def expected_state_error(
    model: nn.Module, changes: Mapping[str, Sequence[Tensor]], items: Sequence[CalibrationInput]
) -> Matrix:
    """Squared change of the encoder's states by every change on its own, (layers, changes of a layer), as a share.

    With h_t the state of frame t and a_t the mean attention that the decoder pays to it, over cross-attention layers,
    heads and text positions: sum_t a_t |dh_t|^2 / sum_t a_t |h_t|^2, a mean over sequences, by Hutchinson's estimate.

    Args:
        model: an encoder-decoder model of transformers, in full precision; not changed.
        changes: as for `expected_harm`, of layers of the encoder.
        items: with decoder tokens; every sequence is judged for itself.
    """
    return _second_order(model, changes, items, _states)


def _second_order(
    model: nn.Module,
    changes: Mapping[str, Sequence[Tensor]],
    items: Sequence[CalibrationInput],
    answered: Callable[[nn.Module, CalibrationInput], _Answer],
) -> Matrix:
    generator = torch.Generator().manual_seed(0)
    sequences = [one for item in items for one in _sequences(item)]
    draws = -(-DRAWS // len(sequences))
    harm = {name: np.zeros(len(own)) for name, own in changes.items()}
    count = 0
    for item in sequences:
        with torch.enable_grad(), _outputs(model, changes) as calls:
            answer = answered(model, item)
            for _ in range(draws):
                slopes = torch.autograd.grad(
                    answer.drawn(generator), [call.output for call in calls], retain_graph=True
                )
                of_weights: dict[str, Tensor] = {}
                for call, slope in zip(calls, slopes, strict=True):
                    own = call.of_weight(slope)
                    of_weights[call.name] = of_weights[call.name] + own if call.name in of_weights else own
                for name, gradient in of_weights.items():
                    along = [float((gradient * change).sum()) for change in changes[name]]
                    harm[name] += answer.weight * np.square(along)
        count += draws * answer.count
    return np.stack([harm[name] for name in changes]) / count


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its input, (..., columns), and its output, (..., rows), a node of the graph."""

    name: str
    inputs: Tensor
    output: Tensor

    def of_weight(self, slope: Tensor) -> Tensor:
        """The gradient for the weight, (rows, columns) of float32, from that for the output."""
        return slope.flatten(0, -2).float().T @ self.inputs.flatten(0, -2).float()


@dataclass(frozen=True)
class _Answer:
    """What a model makes of one sequence, a node of the graph.

    Attributes:
        values: (positions, tokens) of log-probabilities, or any other values.
        count: what the harm is a mean over.
        probable: whether they are log-probabilities.
    """

    values: Tensor
    count: int
    probable: bool = False

    @property
    def weight(self) -> float:
        """Of a squared slope."""
        return 0.5 if self.probable else 1.0

    def drawn(self, generator: torch.Generator) -> Tensor:
        """The log-probability of tokens drawn by their probability; of a plain output, a random direction."""
        if not self.probable:
            direction = torch.randn(self.values.shape, generator=generator).to(self.values)
            return (self.values * direction).sum()
        tokens = torch.multinomial(self.values.detach().exp().cpu(), 1, generator=generator)
        return self.values.gather(1, tokens.to(self.values.device)).sum()


def _answer(model: nn.Module, item: CalibrationInput) -> _Answer:
    """The model's answer in the positions that count, or its plain output."""
    output = forward(model, item)
    logits = getattr(output, "logits", None)
    if logits is None:
        plain = output[0] if isinstance(output, tuple) else output
        return _Answer(plain, plain.numel())
    values = torch.log_softmax(item.counted(logits).flatten(0, -2).float(), -1)
    return _Answer(values, len(values), probable=True)


def _states(model: nn.Module, item: CalibrationInput) -> _Answer:
    """The encoder's states for one sequence, (frames, width), each in proportion to the attention that it gets."""
    with _eager(model):
        output = forward(model, item, output_attentions=True)
    states = output.encoder_last_hidden_state[0].float()
    heads = torch.stack([layer[0].detach().float() for layer in output.cross_attentions])
    mask = item.mask("decoder", heads.shape[-2])
    attention = (heads if mask is None else heads[:, :, mask[0]]).mean((0, 1, 2))
    weighted = states * attention.sqrt()[:, None]
    return _Answer(weighted / weighted.detach().norm(), 1)


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Attention whose weights can be read, in the block of code."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _sequences(item: CalibrationInput) -> Iterator[CalibrationInput]:
    """A batch as batches of one, which give more draws for the same work; plain vectors stay together."""
    inputs = item.inputs
    if isinstance(inputs, Tensor) and inputs.dim() == 2:
        yield item
        return
    rows = len(inputs) if isinstance(inputs, Tensor) else len(next(iter(inputs.values())))
    for row in range(rows):
        here = slice(row, row + 1)
        one = inputs[here] if isinstance(inputs, Tensor) else {key: value[here] for key, value in inputs.items()}
        yield CalibrationInput(one, {part: lengths[here] for part, lengths in item.lengths.items()})


@contextmanager
def _outputs(model: nn.Module, names: Mapping[str, object]) -> Iterator[list[_Call]]:
    """The calls of layers in the block of code, their outputs tied into the graph."""
    calls: list[_Call] = []

    def keep(name: str, inputs: Tensor, output: Tensor) -> Tensor:
        output = output if output.requires_grad else output.detach().requires_grad_(True)
        calls.append(_Call(name, inputs.detach(), output))
        return output

    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, args, output, name=name: keep(name, args[0], output))
        for name in names
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
