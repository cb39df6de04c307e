"""The two graphs of a recogniser, exported by torch: an encoder, and a decoder with its cache.

The encoder gives what the decoder attends to, the keys and values of every layer, so that they are computed once an
utterance, and no weight stands in both. The decoder takes any number of tokens after any number of earlier ones, whose
keys and values come in and go out longer. Its head and embedding, where they are tied, are one tensor.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import onnx
import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from backends.core.errors import ModelError
from backends.core.generation import refusal, without
from backends.core.integers import IntegerWeight
from backends.core.tied import TiedEmbedding
from backends.onnxruntime._generator import HONOURED

_MODELS = ("WhisperForConditionalGeneration", "MoonshineForConditionalGeneration")
_OPSET = 21


class Graphs(NamedTuple):
    """What a model is to the engine."""

    encoder: onnx.ModelProto
    decoder: onnx.ModelProto


class _Product(nn.Module):
    """A linear layer whose weight lies as `MatMul` takes it, so that nothing is transposed in the graph.

    Args:
        weight: (inputs, outputs).
        bias: (outputs,) or `None`.
        divisor: of the input, (inputs,) or `None`.
    """

    bias: Tensor | None
    divisor: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, divisor: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.register_buffer("divisor", divisor)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        product = (inputs if self.divisor is None else inputs / self.divisor) @ self.weight
        return product if self.bias is None else product + self.bias


class _Lookup(nn.Module):
    """A token embedding that reads the columns of the head that it is tied to."""

    def __init__(self, head: _Product) -> None:
        super().__init__()
        self.head = (head,)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens) to (batch, tokens, width)."""
        columns = self.head[0].weight.index_select(1, tokens.reshape(-1))
        return columns.t().reshape(*tokens.shape, columns.shape[0])


class _Encoder(nn.Module):
    """Speech to keys and values of the decoder's attention to it, layer after layer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.model

    def forward(self, speech: Tensor) -> tuple[Tensor, ...]:
        """(batch, mels, frames) or (batch, samples) to twice as many (batch, heads, positions, width) as layers."""
        states = self.model.encoder(speech).last_hidden_state
        attentions = [layer.encoder_attn for layer in self.model.decoder.layers]
        return tuple(
            projection(states).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for attention in attentions
            for projection in (attention.k_proj, attention.v_proj)
        )


class _Decoder(nn.Module):
    """Tokens, what came before them and what they attend to, to logits and the longer cache."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.proj_out = model.model, model.proj_out

    def forward(self, tokens: Tensor, past: list[Tensor], cross: list[Tensor]) -> tuple[Tensor, ...]:
        """(batch, tokens) of numbers to (batch, tokens, vocabulary); caches as `_Encoder` gives them."""
        cache = EncoderDecoderCache(_cache(past), _cache(cross))
        cache.is_updated = dict.fromkeys(range(len(past) // 2), True)
        decoder = self.model.decoder
        unused = decoder.embed_tokens(tokens)  # of the encoder's states it is only asked whether there are any
        states = decoder(input_ids=tokens, past_key_values=cache, encoder_hidden_states=unused, use_cache=True)
        layers = cache.self_attention_cache.layers
        logits = self.proj_out(states.last_hidden_state)
        return logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))


def _cache(tensors: list[Tensor]) -> DynamicCache:
    cache = DynamicCache()
    for place in range(0, len(tensors), 2):
        cache.update(tensors[place], tensors[place + 1], place // 2)
    return cache


def is_tied(model: Any) -> bool:
    """Whether head and embedding are one tensor."""
    embedding = model.model.decoder.embed_tokens
    return isinstance(embedding, TiedEmbedding) or model.proj_out.weight is embedding.weight


def check(model: Any) -> None:
    """Raise `ModelError` for a model that is not exported here, or would be decoded by other rules."""
    if type(model).__name__ not in _MODELS:
        raise ModelError(f"this adapter exports {' and '.join(_MODELS)}, not {type(model).__name__}")
    rule = model.generation_config
    wanted = refusal(rule) or without(rule, HONOURED)
    if wanted is not None:
        raise ModelError(f"the decoding loop of this adapter does not follow the generation configuration's {wanted}")
    if model.config.model_type == "whisper" and getattr(rule, "no_timestamps_token_id", None) is None:
        raise ModelError("the generation configuration lacks no_timestamps_token_id, with which the prompt ends")


def exported(model: Any, coded: Mapping[str, IntegerWeight], *, tied: bool) -> Graphs:
    """The graphs of a model in float32, which is consumed.

    Args:
        model: what `check` lets pass; layers in `coded` may be of any kind.
        coded: layers that have codes; in the graphs their weights are zeros, in whose place `put_codes` puts them.
        tied: whether the embedding reads from the head.
    """
    model.set_attn_implementation("eager")
    for name, module in list(model.named_modules()):
        if name in coded:
            rows, columns = coded[name].codes.shape
            model.set_submodule(name, _Product(torch.zeros(columns, rows), module.bias, coded[name].divisor))
        elif isinstance(module, nn.Linear):
            model.set_submodule(name, _Product(module.weight.detach().t().contiguous(), module.bias))
    if tied:
        model.model.decoder.embed_tokens = _Lookup(model.proj_out)
    with torch.no_grad(), quiet():
        return _traced(model)


def _traced(model: Any) -> Graphs:
    speech, layers = _example(model), len(model.model.decoder.layers)
    encoder, decoder = _Encoder(model).eval(), _Decoder(model).eval()
    cross = list(encoder(speech))
    # One object for every input: two that are the same would be one input to the exporter.
    past = [torch.zeros(2, tensor.shape[1], 3, tensor.shape[3]) for tensor in cross]
    tokens = torch.ones(2, 4, dtype=torch.long)
    axes = {0: "batch", 1: "samples"} if speech.dim() == 2 else {0: "batch"}
    longer = [[{0: "batch", 2: name}] * len(cross) for name in ("past", "positions")]
    return Graphs(
        _exported(encoder, (speech,), (axes,), ["speech"], names("cross", layers)),
        _exported(
            decoder,
            (tokens, past, cross),
            ({0: "batch", 1: "tokens"}, *longer),
            ["tokens", *names("past", layers), *names("cross", layers)],
            ["logits", *names("present", layers)],
        ),
    )


def names(prefix: str, layers: int) -> list[str]:
    """Of keys and values, layer after layer.

    >>> names("past", 1)
    ['past_key_0', 'past_value_0']
    """
    return [f"{prefix}_{kind}_{layer}" for layer in range(layers) for kind in ("key", "value")]


def _example(model: Any) -> Tensor:
    """Speech of the shape that the model takes, two utterances."""
    config = model.config
    if config.model_type == "moonshine":
        return torch.zeros(2, 16000)
    encoder = model.get_encoder()
    frames = config.max_source_positions * encoder.conv1.stride[0] * encoder.conv2.stride[0]
    return torch.zeros(2, config.num_mel_bins, frames)


def _exported(
    module: nn.Module, arguments: tuple[Any, ...], shapes: tuple[Any, ...], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        arguments,
        dynamo=True,
        opset_version=_OPSET,
        dynamic_shapes=shapes,
        input_names=inputs,
        output_names=outputs,
        verbose=False,
    )
    graph: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]
    for node in graph.graph.node:
        if node.op_type == "MatMul" and node.input[1].endswith(".weight"):
            node.name = node.input[1].removesuffix(".weight")
    return graph


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporter and quantizers print, warn of and log about their own ways."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
