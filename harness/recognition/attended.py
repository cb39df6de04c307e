"""What a decoder attends to for a batch of speech: the encoder's states, and the keys and values made of them once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import Cache, DynamicLayer


@dataclass
class Attended:
    """A batch of speech as the decoder's cross-attention takes it.

    Attributes:
        states: what the encoder returned, a row for each utterance.
        cross: the cross-attention's keys and values of all utterances, where the decoder has run over them; with
            beam search a row for each beam.
    """

    states: Any = None
    cross: Any = None

    def arguments(self, chosen: Sequence[int] | None = None) -> dict[str, Any]:
        """Arguments of the model that start some utterances (all, when not given) anew, with an empty own cache."""
        if chosen is not None and len(chosen) == self._utterances:
            chosen = None
        states = self.states if chosen is None else rows_of(self.states, chosen)
        cache = EncoderDecoderCache(DynamicCache(), self._cross(chosen))
        return {"encoder_outputs": states, "past_key_values": cache, "use_cache": True}

    def _cross(self, chosen: Sequence[int] | None) -> Cache:
        if self.cross is None:
            return Cache(layer_class_to_replicate=_SpeechLayer)
        beams = len(self.cross.layers[0].keys) // self._utterances
        if chosen is None and beams == 1:
            return self.cross
        rows = [beams * row for row in chosen or range(self._utterances)]
        return DynamicCache([(layer.keys[rows], layer.values[rows]) for layer in self.cross.layers])

    @property
    def _utterances(self) -> int:
        return len(self.states.last_hidden_state)


class _SpeechLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the speech in one layer, kept as they are made; `DynamicLayer` copies them behind nothing."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Takes what is given once, and gives it back."""
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states, value_states
        return key_states, value_states


@contextmanager
def attended(model: Any) -> Iterator[Attended]:
    """What the decoder of `model` attends to in its first call in the block, which has to be for a whole batch.

    Of `None`, a model that cannot be looked into, nothing is seen.
    """
    seen = Attended()
    if model is None:
        yield seen
        return

    def encoded(_: nn.Module, inputs: Any, output: Any) -> None:
        seen.states = output
        of_encoder.remove()

    def decoded(_: nn.Module, inputs: Any, output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        seen.cross = getattr(cache, "cross_attention_cache", None)
        of_decoder.remove()

    of_encoder = model.get_encoder().register_forward_hook(encoded)
    of_decoder = model.get_decoder().register_forward_hook(decoded)
    try:
        yield seen
    finally:
        of_encoder.remove()
        of_decoder.remove()


def rows_of(states: Any, chosen: Sequence[int]) -> Any:
    """Some rows of an encoder's output."""
    index = torch.tensor(chosen, device=states.last_hidden_state.device)
    return type(states)(**{key: value[index] if isinstance(value, Tensor) else value for key, value in states.items()})
