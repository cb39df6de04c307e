"""What decides the time of published models' encoders, as their `config.json` on the hub says, by exact name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _whisper(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "whisper",
        "d_model": width,
        "encoder_ffn_dim": 4 * width,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
    }


def _moonshine(width: int, layers: int) -> dict[str, Any]:
    return {
        "model_type": "moonshine",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "encoder_num_hidden_layers": layers,
        "encoder_num_attention_heads": 8,
    }


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "openai/whisper-tiny": _whisper(384, 4, 6),
    "openai/whisper-tiny.en": _whisper(384, 4, 6),
    "openai/whisper-base": _whisper(512, 6, 8),
    "openai/whisper-base.en": _whisper(512, 6, 8),
    "openai/whisper-small": _whisper(768, 12, 12),
    "openai/whisper-small.en": _whisper(768, 12, 12),
    "UsefulSensors/moonshine-tiny": _moonshine(288, 6),
    "UsefulSensors/moonshine-base": _moonshine(416, 8),
}
"""Excerpts of `config.json`."""
