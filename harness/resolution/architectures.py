"""What a family's `config.json` says of size: how long its encoder works, what memory an utterance takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.datasets import SAMPLE_RATE

SHORTEST = 1600
"""Samples that Moonshine's convolutions can take."""


@dataclass(frozen=True)
class Shape:
    """An encoder, as far as its time depends on it.

    Attributes:
        convolutions: in front of the layers, in turn: channels in and out, kernel, stride.
        length: of what the first one takes.
        width, inner, heads, layers: of the layers; `inner` is the feed-forward's width.
    """

    convolutions: tuple[tuple[int, int, int, int], ...]
    length: int
    width: int
    inner: int
    heads: int
    layers: int


class Architecture(Protocol):
    """A family of models, as far as its configuration tells.

    Attributes:
        tokens_per_second: that an utterance may have, with two more, where the experiment says nothing; or no such cap.
    """

    tokens_per_second: float | None

    def numbers(self, config: Mapping[str, Any], tokens: int) -> int:
        """About how many numbers one utterance of a window keeps in memory at once, from the model's `config.json`.

        The widest activations of the encoder, the keys and values of the speech, and the logits of `tokens` tokens.
        """
        ...

    def shape(self, config: Mapping[str, Any], seconds: float) -> Shape:
        """The encoder for one recording of so many seconds, from the model's `config.json`."""
        ...

    def passes(self, seconds: float, *, whole: bool) -> float:
        """How often the encoder is used for a recording of so many seconds, decoded in one pass or `whole`."""
        ...

    def room(self, config: Mapping[str, Any]) -> int:
        """Tokens that the decoder has places for behind its prompt."""
        ...


class WhisperArchitecture:
    """A window of fixed length."""

    tokens_per_second: float | None = None

    def numbers(self, config: Mapping[str, Any], tokens: int) -> int:
        """For the whole window."""
        width, inner = config["d_model"], config["encoder_ffn_dim"]
        return _numbers(config["max_source_positions"], width, inner, config["decoder_layers"]) + _logits(
            config, tokens
        )

    def shape(self, config: Mapping[str, Any], seconds: float) -> Shape:
        """The whole window, whatever is in it."""
        width = config["d_model"]
        convolutions = ((config["num_mel_bins"], width, 3, 1), (width, width, 3, 2))
        length, heads = 2 * config["max_source_positions"], config["encoder_attention_heads"]
        return Shape(convolutions, length, width, config["encoder_ffn_dim"], heads, config["encoder_layers"])

    def passes(self, seconds: float, *, whole: bool) -> float:
        """One for every window of 30 s."""
        return max(1.0, seconds / 30) if whole else 1.0

    def room(self, config: Mapping[str, Any]) -> int:
        """The prompt is the start and the token for no timestamps; with several languages also language and task."""
        prompt = 4 if config.get("vocab_size", 0) >= 51865 else 2
        return int(config.get("max_target_positions", 448)) - prompt


class MoonshineArchitecture:
    """As long as the utterance; at most 6.5 tokens a second and 2 more, as on the leaderboard."""

    tokens_per_second: float | None = 6.5

    def numbers(self, config: Mapping[str, Any], tokens: int) -> int:
        """For 30 s of speech."""
        width, inner = config["hidden_size"], config["intermediate_size"]
        positions, layers = 30 * SAMPLE_RATE // 384, config["decoder_num_hidden_layers"]
        return _numbers(positions, width, inner, layers) + _logits(config, tokens)

    def shape(self, config: Mapping[str, Any], seconds: float) -> Shape:
        """As long as the recording."""
        width, layers = config["hidden_size"], config["encoder_num_hidden_layers"]
        convolutions = ((1, width, 127, 64), (width, 2 * width, 7, 3), (2 * width, width, 3, 2))
        length, heads = max(int(seconds * SAMPLE_RATE), SHORTEST), config["encoder_num_attention_heads"]
        return Shape(convolutions, length, width, config["intermediate_size"], heads, layers)

    def passes(self, seconds: float, *, whole: bool) -> float:
        """Always one."""
        return 1.0

    def room(self, config: Mapping[str, Any]) -> int:
        """The prompt is the start."""
        return int(config.get("max_position_embeddings", 512)) - 1


def _numbers(positions: int, width: int, inner: int, decoder_layers: int) -> int:
    """Activations of the encoder's attention and feed-forward, and keys and values of the speech."""
    return positions * (2 * inner + 6 * width) + 2 * decoder_layers * positions * width


def _logits(config: Mapping[str, Any], tokens: int) -> int:
    """As the model gives them, and twice more while a rule looks at them."""
    return 3 * tokens * int(config["vocab_size"])


ARCHITECTURES: dict[str, Architecture] = {"whisper": WhisperArchitecture(), "moonshine": MoonshineArchitecture()}
"""By the `model_type` of a checkpoint's configuration; nothing hangs on its name."""
