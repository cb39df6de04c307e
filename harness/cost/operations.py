"""Operations and memory traffic of a quantized model: counted layers, priced with the bits that each layer has.

Policy. BOPs = sum over layers of MACs x weight bits x activation bits (van Baalen et al. 2020, Bayesian
Bits, arXiv 2005.07093; Baskin et al. 2018, UNIQ, arXiv 1804.10969). Weight bits are those of the
layer's effective code, activation bits those of the spec where the layer is quantized (and its inputs
with it), both the float's where it is not; in an attention product both operands are activations. For weight-only
schemes this is the convention of the literature and *not* what runs: a kernel that dequantizes
multiplies floats.

Memory I/O = bytes of weights, activations and key-value caches that are read or written at batch 1
(Yuan et al. 2024, LLM Inference Unveiled, arXiv 2402.16363): every layer reads its weights as stored
(scales included) and its inputs, and writes its outputs, inputs and outputs alike in its activation
bits; attention reads queries and all keys and values, from the cache where there is one, and writes
the new ones into it. Attention scores stay in fast memory, as in a fused kernel. Left out: biases,
norms, softmax, GELU, residual sums, and the feature extraction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from backends import LayerReport, Scheme
from harness.cost.counting import Counts, LayerCount, LayerKind, Phase
from harness.experiment.cell import Configuration

_ATTENTION = (LayerKind.SELF_ATTENTION, LayerKind.CROSS_ATTENTION)
Row = dict[str, Any]


@dataclass(frozen=True)
class Prices:
    """The bits of everything in a quantized model.

    Attributes:
        layers: the reports of the quantization, by name of the module; of a tie by both its names.
        activations: bits of the activations of a quantized layer; `None` where they stay float.
        floats: bits of everything that is not quantized, caches included, as it is computed.
        stored: bits of weights that are not among the layers, as they are stored; `floats` without it.
    """

    layers: Mapping[str, LayerReport]
    activations: int | None
    floats: int
    stored: float | None = None

    @classmethod
    def of(cls, configuration: Configuration, layers: Iterable[LayerReport]) -> Prices:
        """The bits of a configuration whose quantization reported `layers`."""
        spec = configuration.spec
        loaded = getattr(torch, configuration.model.dtype).itemsize * 8
        cast = spec.bits if spec.scheme is Scheme.NONE and not configuration.is_baseline else None
        activations = None if spec.activations is None else spec.activations.bits
        reports = list(layers)
        looked_up = {layer.lookup: layer for layer in reports if layer.lookup}
        stored = min((layer.effective_bits for layer in reports if layer.effective is None), default=None)
        return cls({layer.name: layer for layer in reports} | looked_up, activations, cast or loaded, stored)

    def row(self, phase: Phase, layer: LayerCount) -> Row:
        """One layer in one phase as a row: MACs, bits, BOPs, and bytes (float: codes may be less than a byte)."""
        report = self.layers.get(layer.name)
        code = None if report is None else report.effective
        weight_bits = self.floats if code is None else code.bits
        rounded = report is not None and code is not None and not report.float_inputs
        activation_bits = self._activation_bits(layer, quantized=rounded)
        stored_bits = (self.stored or self.floats) if report is None else report.effective_bits
        return {
            "phase": str(phase),
            "name": layer.name,
            "kind": str(layer.kind),
            "macs": layer.macs,
            "weight_bits": None if layer.kind in _ATTENTION else weight_bits,
            "activation_bits": activation_bits,
            "bops": layer.macs * activation_bits * (activation_bits if layer.kind in _ATTENTION else weight_bits),
            "weight_bytes": layer.weights * stored_bits / 8,
            "activation_bytes": (layer.inputs + layer.outputs) * activation_bits / 8,
            "cache_bytes_read": layer.cache_read * self.floats / 8,
            "cache_bytes_written": layer.cache_written * self.floats / 8,
        }

    def _activation_bits(self, layer: LayerCount, *, quantized: bool) -> int:
        """An embedding has no activation that goes in: what it looks up comes out as floats."""
        multiplies = layer.kind not in _ATTENTION and layer.kind is not LayerKind.EMBEDDING
        return self.activations if quantized and multiplies and self.activations else self.floats


def operation_rows(counts: Counts, prices: Prices) -> list[Row]:
    """All rows of `operations.parquet`: every layer in every phase."""
    return [prices.row(phase, layer) for phase, layers in counts.items() for layer in layers]


@dataclass(frozen=True)
class Total:
    """Sum over layers: multiply-accumulates, bit operations, and bytes of weights, activations and caches."""

    macs: float = 0
    bops: float = 0
    memory_io_bytes: float = 0

    def __add__(self, other: Total) -> Total:
        return Total(self.macs + other.macs, self.bops + other.bops, self.memory_io_bytes + other.memory_io_bytes)

    def __mul__(self, factor: float) -> Total:
        return Total(self.macs * factor, self.bops * factor, self.memory_io_bytes * factor)


_BYTES = ("weight_bytes", "activation_bytes", "cache_bytes_read", "cache_bytes_written")


def total(rows: Iterable[Row], phase: Phase) -> Total:
    """The sum over the layers of one phase."""
    chosen = [row for row in rows if row["phase"] == phase]
    return Total(
        sum(row["macs"] for row in chosen),
        sum(row["bops"] for row in chosen),
        sum(row[name] for row in chosen for name in _BYTES),
    )


@dataclass(frozen=True)
class Transcriptions:
    """What a cell transcribed, as far as it costs.

    Attributes:
        prompt: tokens that the decoder was started with.
        generated: tokens of every utterance after the prompt and before the end-of-text. Each costs one
            step, the last of which yields the end-of-text; one more than was computed where an
            utterance ran into the limit instead. Beams beside the best are not counted.
        audio_seconds: of all utterances.
        windows: that the encoder took, each of which has the prompt; the steps of an utterance of several windows
            are counted at the positions that they would have in one.
    """

    prompt: int
    generated: tuple[int, ...]
    audio_seconds: float
    windows: int

    @property
    def steps(self) -> int:
        """All decoder steps."""
        return sum(self.generated)

    @property
    def positions(self) -> int:
        """Sum of the positions of all steps; an utterance of n tokens has steps at prompt, ..., prompt + n - 1."""
        return sum(n * self.prompt + n * (n - 1) // 2 for n in self.generated)

    @property
    def mean_position(self) -> float:
        """Of a step; the first position where there was no step."""
        return self.positions / self.steps if self.steps else float(self.prompt)

    @property
    def mean_final_position(self) -> float:
        """Tokens in the cache when an utterance ends."""
        return self.prompt + self.steps / len(self.generated)


def cell_columns(rows: Sequence[Row], transcribed: Transcriptions) -> dict[str, float]:
    """The columns of a cell's result: its whole work per second of audio, one pass of each part, and its caches.

    Work is windows x (encoder + prefill) + the sum of the steps at their positions, as if every
    utterance were transcribed alone.
    """
    encoder, prefill, base, slope = (total(rows, phase) for phase in Phase)
    work = (encoder + prefill) * transcribed.windows + base * transcribed.steps + slope * transcribed.positions
    per_second = work * (1 / transcribed.audio_seconds)
    step = base + slope * transcribed.mean_position
    per_position = _written(rows, Phase.STEP, LayerKind.SELF_ATTENTION)
    return {
        "macs_per_audio_second": per_second.macs,
        "bops_per_audio_second": per_second.bops,
        "memory_io_bytes_per_audio_second": per_second.memory_io_bytes,
        "encoder_bops": encoder.bops,
        "decoder_step_bops": step.bops,
        "encoder_memory_io_bytes": encoder.memory_io_bytes,
        "decoder_step_memory_io_bytes": step.memory_io_bytes,
        "self_attention_cache_bytes": per_position * transcribed.mean_final_position,
        "cross_attention_cache_bytes": _written(rows, Phase.PREFILL, LayerKind.CROSS_ATTENTION),
    }


def _written(rows: Iterable[Row], phase: Phase, kind: LayerKind) -> float:
    return sum(row["cache_bytes_written"] for row in rows if row["phase"] == phase and row["kind"] == kind)


@contextmanager
def decoder_prompt(model: Any) -> Iterator[list[int]]:
    """A list that holds, after the first `generate` in the block, the tokens that the decoder was started with."""
    prompt: list[int] = []

    def first_call(module: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        prompt.extend(keywords["input_ids"][0].tolist())
        hook.remove()

    hook = model.get_decoder().register_forward_pre_hook(first_call, with_kwargs=True)
    try:
        yield prompt
    finally:
        hook.remove()


def generated(tokens: Sequence[int], prompt: Sequence[int]) -> Sequence[int]:
    """Tokens after the prompt, which `generate` repeats in what it returns for some models.

    >>> generated([1, 7, 8], prompt=[1]), generated([7, 8], prompt=[1])
    ([7, 8], [7, 8])
    """
    repeated = list(tokens[: len(prompt)]) == list(prompt)
    return tokens[len(prompt) if repeated else 0 :]
