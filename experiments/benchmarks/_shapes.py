"""Models in the shapes of published ones, with random weights, for benchmarks that need no trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from harness.embedded import MODEL_DIRECTORY

_LAYERS = {"tiny": (384, 4, 6), "small": (768, 12, 12)}
"""Width, layers of encoder and decoder, heads."""


def whisper(size: str) -> Any:
    """A Whisper of 51 865 tokens and a window of 30 s that is sure of what it says, and says it for ever.

    Positions and the last normalisation are scaled up, so that the largest logit stands out as a trained model's does:
    without that, quantizing would change nearly every token.
    """
    width, layers, heads = _LAYERS[size]
    embedded = GenerationConfig.from_pretrained(MODEL_DIRECTORY)
    tokens = {
        key: getattr(embedded, key)
        for key in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=width,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width,
            begin_suppress_tokens=None,
            **tokens,
        )
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "layers" in name:
                parameter.normal_(0, 2 / width**0.5, generator=generator)
        model.get_decoder().embed_positions.weight.normal_(0, 1, generator=generator)
        model.get_decoder().layer_norm.weight.fill_(10.0)
    model.generation_config = embedded
    return model


def processor() -> WhisperProcessor:
    """For windows of 30 s, with a tokenizer that knows the embedded model's tokens."""
    return WhisperProcessor(WhisperFeatureExtractor(), AutoProcessor.from_pretrained(MODEL_DIRECTORY).tokenizer)


def save_whisper(size: str, directory: Path) -> Path:
    """Such a model on disk, with its processor."""
    whisper(size).save_pretrained(directory)
    processor().save_pretrained(directory)
    return directory
