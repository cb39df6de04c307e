"""Multiply-accumulates and tensor elements of one pass, layer by layer, counted and not guessed from shapes.

The full-precision architecture is built from its configuration on torch's meta device, where tensors
have shapes and no numbers, and run once a phase at batch 1. torch's `FlopCounterMode` counts what is
multiplied and module hooks say where, so that counting costs a fraction of a second and no memory.
Attention is built in its eager form: the fused kernel that the CPU takes for SDPA has no formula in
torch, which would count it as nothing; the products are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSpeechSeq2Seq


class Phase(StrEnum):
    """A part of a transcription.

    What a decoder step costs is linear in its position t, the number of tokens before it: STEP is its
    value at t = 0, and STEP_SLOPE what every position adds.
    """

    ENCODER = "encoder"
    PREFILL = "prefill"
    STEP = "step"
    STEP_SLOPE = "step_slope"


class LayerKind(StrEnum):
    """What a layer does; attention is its two products alone, its projections are `linear`."""

    LINEAR = "linear"
    HEAD = "head"
    CONV = "conv"
    EMBEDDING = "embedding"
    SELF_ATTENTION = "self_attention"
    CROSS_ATTENTION = "cross_attention"


@dataclass(frozen=True)
class LayerCount:
    """What one layer does in one pass at batch 1; all but `macs` are numbers of tensor elements.

    Attributes:
        name: of the module in the model.
        kind: what the layer does.
        macs: multiply-accumulates.
        weights: read; of an embedding, the rows that are looked up.
        inputs, outputs: activations read and written. Keys and values that go into a cache are not
            outputs of their projections but `cache_written` of the attention.
        cache_read, cache_written: keys and values.
    """

    name: str
    kind: LayerKind
    macs: int
    weights: int = 0
    inputs: int = 0
    outputs: int = 0
    cache_read: int = 0
    cache_written: int = 0


Counts = Mapping[Phase, Sequence[LayerCount]]
_NUMBERS = ("macs", "weights", "inputs", "outputs", "cache_read", "cache_written")


def count(config: Any, features: Tensor, prompt: int) -> Counts:
    """Count every phase for an architecture.

    Args:
        config: of a transformers encoder-decoder; not changed.
        features: the encoder's input for one window, (1, ...); only its shape matters.
        prompt: tokens that the decoder is started with, which the prefill takes at once.
    """
    model = _empty(config)
    with torch.no_grad():
        with _counting(model) as encoder:
            encoded = model.get_encoder()(features.to("meta", torch.float32))
        with _counting(model) as prefill:
            _decode(model, encoded, prompt)
        first, second = (_step(model, encoded, position) for position in (1, 2))
    slope = [_combined(two, one, -1) for one, two in zip(first, second, strict=True)]
    base = [_combined(one, per_position, -1) for one, per_position in zip(first, slope, strict=True)]
    grows = [layer for layer in slope if any(getattr(layer, number) for number in _NUMBERS)]
    return {
        Phase.ENCODER: list(encoder.values()),
        Phase.PREFILL: list(prefill.values()),
        Phase.STEP: base,
        Phase.STEP_SLOPE: grows,
    }


def count_step(config: Any, features: Tensor, position: int) -> list[LayerCount]:
    """Count the decoder step after `position` tokens directly, without the linear form."""
    model = _empty(config)
    with torch.no_grad():
        return _step(model, model.get_encoder()(features.to("meta", torch.float32)), position)


def _empty(config: Any) -> Any:
    """The architecture without numbers."""
    with torch.device("meta"):
        model = AutoModelForSpeechSeq2Seq.from_config(
            deepcopy(config), dtype=torch.float32, attn_implementation="eager"
        )
    return model.eval()


def _decode(model: Any, encoded: Any, tokens: int, cache: Any = None) -> Any:
    """Run the decoder on so many tokens; returns its caches."""
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    return model(encoder_outputs=encoded, decoder_input_ids=ids, past_key_values=cache, use_cache=True).past_key_values


def _step(model: Any, encoded: Any, position: int) -> list[LayerCount]:
    cache = _decode(model, encoded, position)
    with _counting(model) as step:
        _decode(model, encoded, 1, cache)
    return list(step.values())


def _combined(one: LayerCount, other: LayerCount, factor: int) -> LayerCount:
    """`one` + `factor` x `other` in every number."""
    return replace(one, **{key: getattr(one, key) + factor * getattr(other, key) for key in _NUMBERS})


@contextmanager
def _counting(model: Any) -> Iterator[dict[str, LayerCount]]:
    """A table by name that is filled, in the order of computation, while `model` runs inside the block."""
    counts: dict[str, LayerCount] = {}
    head = model.get_output_embeddings()
    hooks: list[Any] = []
    with FlopCounterMode(display=False) as flops:
        for name, module in model.named_modules():
            kind = _kind(module, head)
            if kind is not None:
                hooks += _hook(module, name, kind, flops, counts)
        try:
            yield counts
        finally:
            for hook in hooks:
                hook.remove()


def _kind(module: nn.Module, head: nn.Module) -> LayerKind | None:
    if module is head:
        return LayerKind.HEAD
    if all(hasattr(module, name) for name in ("q_proj", "k_proj", "v_proj")):
        return LayerKind.SELF_ATTENTION
    kinds = {nn.Linear: LayerKind.LINEAR, nn.Conv1d: LayerKind.CONV, nn.Embedding: LayerKind.EMBEDDING}
    return next((kind for of, kind in kinds.items() if isinstance(module, of)), None)


def _hook(
    module: nn.Module, name: str, kind: LayerKind, flops: FlopCounterMode, counts: dict[str, LayerCount]
) -> list[Any]:
    before: list[int] = []

    def entered(*_: Any) -> None:
        before.append(flops.get_total_flops())

    def left(module: Any, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        macs = (flops.get_total_flops() - before.pop()) // 2
        if kind is LayerKind.SELF_ATTENTION:
            counts[name] = _attention(module, name, keywords, macs, counts)
        elif kind is LayerKind.EMBEDDING:
            counts[name] = LayerCount(name, kind, macs, output.numel(), 0, output.numel())
        else:
            counts[name] = LayerCount(name, kind, macs, module.weight.numel(), args[0].numel(), output.numel())

    return [module.register_forward_pre_hook(entered), module.register_forward_hook(left, with_kwargs=True)]


def _attention(
    module: Any, name: str, keywords: dict[str, Any], macs: int, counts: dict[str, LayerCount]
) -> LayerCount:
    """What is left of an attention module without its projections; cached keys and values leave their outputs."""
    own = {key: layer for key, layer in counts.items() if key.startswith(f"{name}.")}
    products = macs - sum(layer.macs for layer in own.values())
    query = own[f"{name}.q_proj"].outputs
    new = [own[key] for key in (f"{name}.k_proj", f"{name}.v_proj") if key in own]
    new_elements = sum(layer.outputs for layer in new)
    cross = keywords.get("key_value_states") is not None
    kind = LayerKind.CROSS_ATTENTION if cross else LayerKind.SELF_ATTENTION
    caches = keywords.get("past_key_values")
    if caches is None:
        return LayerCount(name, kind, products, inputs=query + new_elements, outputs=query)
    counts.update({layer.name: replace(layer, outputs=0) for layer in new})
    held = (caches.cross_attention_cache if cross else caches.self_attention_cache).layers[module.layer_idx]
    read = held.keys.numel() + held.values.numel()
    return LayerCount(name, kind, products, 0, query, query, read, new_elements)
