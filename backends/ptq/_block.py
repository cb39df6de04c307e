"""A float32 copy of a block in which trial weights are computed with.

Methods that learn put weights with gradients into it, and judge what they end with by the same loss. One
batch is in flight at a time, and the block itself is never touched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backends.core.activations import range_of, round_activations
from backends.core.codes import Activations
from backends.ptq._codes import half
from backends.ptq._linear import Solution, Transform
from backends.ptq._method import Block, Layer, Request

Solved = Mapping[str, tuple[Transform, Solution]]
"""Transform and solution of every layer of a block."""
Weights = Mapping[str, tuple[Transform, Tensor]]
"""Transform and transformed weight, (rows, columns), of every layer of a block."""


ALONE = "0"
"""Name of the layer in the block that `alone` makes."""


def alone(layer: Layer) -> Block:
    """A layer outside of all blocks, such as a head, as a block of its own; its inputs are the sample that is kept."""
    rows, columns = layer.weight.shape
    linear = nn.Linear(columns, rows, bias=False, device="meta")
    linear.weight = nn.Parameter(layer.weight, requires_grad=False)
    sample = layer.known.sample
    return Block(nn.Sequential(linear), {ALONE: layer}, [((sample,), {})], [sample @ layer.weight.T], [None])


def straight_through(rounded: Tensor, value: Tensor) -> Tensor:
    """`rounded`, bit for bit, with the gradient of `value` (Bengio et al. 2013, arXiv 1308.3432)."""
    return rounded.detach() + (value - value.detach())


def stored(scale: Tensor) -> Tensor:
    """A learned scale at the value that its 16 bits will hold, in float32, with the gradient of `scale`."""
    return straight_through(half(scale).float(), scale)


class Trial:
    """A block under trial.

    Args:
        block: not changed.
        request: its `activations` are rounded as the quantized layers will round them.
    """

    def __init__(self, block: Block, request: Request) -> None:
        self._block = block
        self._module = copy.deepcopy(block.module).float().requires_grad_(False)
        self._layers: dict[str, _TrialLinear] = {}
        for name in block.layers:
            bias: Tensor | None = self._module.get_submodule(name).bias  # type: ignore[assignment]
            self._layers[name] = _TrialLinear(bias, request.activations)
            self._module.set_submodule(name, self._layers[name])

    def put(self, weights: Weights) -> None:
        """Let the layers compute with these."""
        for name, (transform, weight) in weights.items():
            self._layers[name].transform, self._layers[name].weight = transform, weight

    def descend(self, optimizer: torch.optim.Optimizer, weights: Callable[[], Weights]) -> None:
        """One epoch: a step on every batch, in their order, with weights made anew for each."""
        for index in range(len(self._block.inputs)):
            with torch.enable_grad():
                self.put(weights())
                loss = self._errors(index).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def loss(self, solved: Solved) -> float:
        """||F(W, X) - F(W', X')||^2 over all batches, the mean over positions that count and channels."""
        self.put({name: (transform, solution.weight) for name, (transform, solution) in solved.items()})
        total = count = 0.0
        with torch.no_grad():
            for index in range(len(self._block.inputs)):
                errors = self._errors(index)
                total, count = total + float(errors.sum()), count + errors.numel()
        return total / count

    def _errors(self, index: int) -> Tensor:
        """Squared differences in the positions that count of one batch."""
        args, keywords = _floating(self._block.inputs[index])
        output = self._module(*args, **keywords)
        output = output[0] if isinstance(output, tuple) else output
        mask = self._block.masks[index]
        difference = output - self._block.targets[index].float()
        errors: Tensor = (difference if mask is None else difference[mask]) ** 2
        return errors


class _TrialLinear(nn.Module):
    """What `QuantizedLinear` computes, of a weight that may have a gradient."""

    def __init__(self, bias: Tensor | None, activations: Activations | None) -> None:
        super().__init__()
        self.bias, self.activations = bias, activations
        self.transform = Transform()
        self.weight = torch.empty(0)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = self.transform.of_input(inputs)
        if self.activations is not None:
            low, high = range_of(inputs, self.activations)
            inputs = straight_through(round_activations(inputs, self.activations, low, high), inputs)
        return nn.functional.linear(inputs, self.weight, self.bias)


def _floating(value: Any) -> Any:
    """`value` with every floating tensor within its tuples and dictionaries in float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(_floating(entry) for entry in value)
    if isinstance(value, dict):
        return {key: _floating(entry) for key, entry in value.items()}
    return value
