"""From calibration inputs to quantized layers, block after block, in one pass over the model.

The blocks of the encoder come first, then those of the decoder, which see the states of the encoder
as it is by then: quantized predecessors feed the next block. What flows between two blocks is kept
for all batches, nothing more; of the layers inside, second moments and a sample. Linear layers outside
of the blocks (a head) come last.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from backends.core.base import Calibration, CalibrationInput
from backends.core.errors import ModelError
from backends.ptq._method import Block, Layer, Needs
from backends.ptq._statistics import Accumulator, Statistics

SolveLayer = Callable[[Layer], nn.Module]
SolveBlock = Callable[[Block], Mapping[str, nn.Module]]


@dataclass(frozen=True)
class Engine:
    """Quantizes the chosen layers of a model in place.

    Attributes:
        model: consumed.
        names: of the linear layers to be quantized.
        needs: of the method.
        layer: makes the quantized module of one layer.
        block: the same for all layers of a block, for methods that need blocks.
    """

    model: nn.Module
    names: Sequence[str]
    needs: Needs
    layer: SolveLayer
    block: SolveBlock | None = None

    def run(self, calibration: Calibration | None) -> None:
        """Replace all layers.

        Raises:
            ModelError: there are no calibration inputs though the method needs them, or a layer saw none.
        """
        if self.needs is Needs.NOTHING:
            for name in self.names:
                self._replace(name, Layer(name, _weight(self.model, name), None))
            return
        items = [as_input(item) for item in calibration or ()]
        if not items:
            raise ModelError("this method needs calibration inputs: pass calibration=[...] to quantize")
        rest = list(self.names)
        for stack in _stacks(self.model, self.names):
            self._quantize_stack(stack, items)
            rest = [name for name in rest if not name.startswith(f"{stack}.")]
        self._quantize_rest(rest, items)

    def _replace(self, name: str, layer: Layer) -> None:
        self.model.set_submodule(name, self.layer(layer))

    def _quantize_rest(self, names: Sequence[str], items: Sequence[CalibrationInput]) -> None:
        """Layers outside of blocks, all from one pass over the model."""
        if not names:
            return
        modules = {name: self.model.get_submodule(name) for name in names}
        gathered = {name: _accumulator(module) for name, module in modules.items()}
        for item in items:
            with _heard(modules) as inputs:
                forward(self.model, item)
            for name, seen in inputs.items():
                gathered[name].add(_vectors(item.counted(seen)))
        for name, statistics in _finished(gathered).items():
            self._replace(name, Layer(name, _weight(self.model, name), statistics))

    def _quantize_stack(self, stack: str, items: Sequence[CalibrationInput]) -> None:
        """All blocks of one stack, the encoder's or the decoder's."""
        blocks = self.model.get_submodule(stack)
        flows = [_entering(self.model, blocks[0], item) for item in items]  # type: ignore[index]
        exact = [flow.args[0] for flow in flows]
        for index in range(len(blocks)):  # type: ignore[arg-type]
            prefix = f"{stack}.{index}"
            own = [name for name in self.names if name.startswith(f"{prefix}.")]
            exact = self._quantize_block(prefix, own, flows, exact)

    def _quantize_block(
        self, prefix: str, names: Sequence[str], flows: list[_Flow], exact: Sequence[Tensor]
    ) -> list[Tensor]:
        """One block; its outputs become the flows' inputs, and its full-precision outputs are returned."""
        block = self.model.get_submodule(prefix)
        modules = {name: self.model.get_submodule(name) for name in names}
        keep_exact = self.needs is not Needs.STATISTICS
        gathered = {name: _accumulator(module, self.needs is Needs.EXACT) for name, module in modules.items()}
        targets = []
        for flow, full in zip(flows, exact, strict=True):
            with _heard(modules) as full_inputs:
                targets.append(flow.through(block, full) if keep_exact else full)
            with _heard(modules) as inputs:
                flow.through(block)
            for name, seen in inputs.items():
                there = flow.valid(full_inputs[name]) if keep_exact else None
                gathered[name].add(flow.valid(seen), there)
        statistics = _finished(gathered)
        layers = {name: Layer(name, _weight(self.model, name), statistics[name]) for name in names}
        self._put(prefix, block, layers, flows, targets)
        for flow in flows:
            flow.args = (flow.through(block), *flow.args[1:])
        return targets

    def _put(
        self, prefix: str, block: nn.Module, layers: Mapping[str, Layer], flows: Sequence[_Flow], targets: list[Tensor]
    ) -> None:
        if self.block is None or not layers:
            for name, layer in layers.items():
                self._replace(name, layer)
            return
        inside = {name.removeprefix(f"{prefix}."): layer for name, layer in layers.items()}
        inputs = [(flow.args, flow.keywords) for flow in flows]
        whole = Block(copy.deepcopy(block), inside, inputs, targets, [flow.mask for flow in flows])
        for name, module in self.block(whole).items():
            block.set_submodule(name, module)


@dataclass
class _Flow:
    """What goes into the next block for one calibration batch.

    Attributes:
        args, keywords: of the block; the first argument is the hidden states, (batch, positions, width).
        mask: which of its positions count.
        states, states_mask: of the encoder, where the block attends to them.
    """

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    mask: Tensor | None
    states_mask: Tensor | None

    def through(self, block: nn.Module, hidden: Tensor | None = None) -> Tensor:
        """The block's output for these inputs, or for other hidden states in their place."""
        args = self.args if hidden is None else (hidden, *self.args[1:])
        output = block(*args, **self.keywords)
        return output[0] if isinstance(output, tuple) else output

    def valid(self, seen: Tensor) -> Tensor:
        """The vectors of a layer's input that count, (tokens, columns)."""
        states = self.keywords.get("encoder_hidden_states")
        of_states = states is not None and (seen is states or seen.shape[1] != self.args[0].shape[1])
        return _masked(seen, self.states_mask if of_states else self.mask)


class _Caught(Exception):
    """The first block of a stack was reached."""


def _entering(model: nn.Module, block: nn.Module, item: CalibrationInput) -> _Flow:
    """What the first block of a stack is given for one batch."""
    caught: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def catch(_: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        caught.append((args, keywords))
        raise _Caught

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        forward(model, item)
    except _Caught:
        pass
    finally:
        hook.remove()
    hidden, keywords = _by_name(block, *caught[0])
    states = keywords.get("encoder_hidden_states")
    part = "encoder" if states is None else "decoder"
    states_mask = None if states is None else item.mask("encoder", states.shape[1])
    return _Flow((hidden,), keywords, item.mask(part, hidden.shape[1]), states_mask)


def _by_name(block: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """The first argument of a call of `block`, its hidden states, and all others by their names."""
    bound = inspect.signature(block.forward).bind(*args, **keywords)
    (_, hidden), *others = bound.arguments.items()
    named: dict[str, Any] = {}
    for name, value in others:
        is_rest = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        named |= value if is_rest else {name: value}
    return hidden, named


def forward(model: nn.Module, item: CalibrationInput, **wishes: bool) -> Any:
    """The model's output for one batch, without a cache of keys and values; `wishes` are the model's own keywords."""
    if isinstance(item.inputs, Tensor):
        return model(item.inputs, **wishes)
    without_cache = {"use_cache": False} if hasattr(model, "config") else {}
    return model(**item.inputs, **without_cache, **wishes)


def as_input(item: Any) -> CalibrationInput:
    """A calibration item in its full form: plain tensors and mappings count in all positions."""
    return item if isinstance(item, CalibrationInput) else CalibrationInput(item)


@contextmanager
def _heard(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The inputs of modules during the block of code, by name."""
    inputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: inputs.__setitem__(name, args[0]))
        for name, module in modules.items()
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def _vectors(seen: Tensor) -> Tensor:
    return seen.reshape(-1, seen.shape[-1])


def _masked(seen: Tensor, mask: Tensor | None) -> Tensor:
    flat = _vectors(seen)
    return flat if mask is None else flat[mask.reshape(-1)]


def _finished(gathered: Mapping[str, Accumulator]) -> dict[str, Statistics]:
    silent = sorted(name for name, accumulator in gathered.items() if not accumulator.count)
    if silent:
        raise ModelError(f"calibration did not reach {', '.join(silent)}: leave them out, or calibrate on more")
    return {name: accumulator.statistics() for name, accumulator in gathered.items()}


def _accumulator(layer: Any, exact: bool = False) -> Accumulator:
    """Empty statistics for a linear layer's input."""
    return Accumulator(layer.in_features, exact, layer.weight.device)


def _weight(model: nn.Module, name: str) -> Tensor:
    weight: Tensor = model.get_submodule(name).weight  # type: ignore[assignment]
    return weight.detach().float()


def _stacks(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The outermost module lists whose entries all hold chosen layers, in the model's order."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and not inside and _all_hold(name, len(module), names):
            found.append(name)
    return found


def _all_hold(stack: str, length: int, names: Sequence[str]) -> bool:
    return length > 0 and all(any(n.startswith(f"{stack}.{i}.") for n in names) for i in range(length))
