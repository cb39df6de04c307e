"""The embedded model with planted activation outliers: an outlier variant, made at load time.

Real checkpoints have a few channels with activations many times as large as the others, the embedded model
has none, so methods that fight outliers could not show their worth on it. A few channels of every layer
norm are made larger, gain and bias alike, and the columns that read them smaller by the same factor: the
function stays what it was, up to float rounding, and the outliers are of known place and size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

CHANNELS = 4
"""In every layer norm."""


def plant(model: Any, strength: float) -> dict[str, tuple[int, ...]]:
    """Plant outliers in a Whisper, in place; returns the channels by the name of the layer norm.

    The last norm of the decoder is left as it is: the head that reads it is the token embedding. The
    same channels are chosen in every call.
    """
    planted = {}
    with torch.no_grad():
        for number, (name, norm, readers) in enumerate(_norms(model)):
            chosen = torch.randperm(norm.weight.numel(), generator=torch.Generator().manual_seed(number))[:CHANNELS]
            norm.weight[chosen] *= strength
            norm.bias[chosen] *= strength
            for reader in readers:
                reader.weight[:, chosen] /= strength
            planted[name] = tuple(sorted(chosen.tolist()))
    return planted


def _norms(model: Any) -> Iterator[tuple[str, nn.LayerNorm, Sequence[nn.Linear]]]:
    """Every layer norm whose output goes into linear layers alone, with these."""
    encoder, decoder = model.get_encoder(), model.get_decoder()
    for part, stack in (("encoder", encoder), ("decoder", decoder)):
        for index, layer in enumerate(stack.layers):
            at = f"{part}.layers.{index}"
            attention = layer.self_attn
            yield f"{at}.self_attn_layer_norm", layer.self_attn_layer_norm, _inputs(attention, "qkv")
            yield f"{at}.final_layer_norm", layer.final_layer_norm, [layer.fc1]
            if part == "decoder":
                yield f"{at}.encoder_attn_layer_norm", layer.encoder_attn_layer_norm, _inputs(layer.encoder_attn, "q")
    states = [reader for layer in decoder.layers for reader in _inputs(layer.encoder_attn, "kv")]
    yield "encoder.layer_norm", encoder.layer_norm, states


def _inputs(attention: Any, letters: str) -> list[nn.Linear]:
    return [getattr(attention, f"{letter}_proj") for letter in letters]
