"""Checkpoints with random weights in the shapes of published models, saved to disk as a hub would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from harness.embedded import MODEL_DIRECTORY
from tests.conftest import build_whisper

WHISPER_TINY = {"encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 6, "decoder_attention_heads": 6}
WHISPER_SMALL = {
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
}


def save_whisper(directory: Path, width: int = 384, **shape: Any) -> Path:
    """A Whisper with a window of 30 s and 51 865 tokens, of which the tokenizer knows the embedded model's 512."""
    embedded = AutoProcessor.from_pretrained(MODEL_DIRECTORY)
    generation = GenerationConfig.from_pretrained(MODEL_DIRECTORY)
    model: WhisperForConditionalGeneration = build_whisper(
        vocabulary=51865,
        width=width,
        frames=3000,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        pad_token_id=generation.pad_token_id,
        bos_token_id=generation.bos_token_id,
        eos_token_id=generation.eos_token_id,
        decoder_start_token_id=generation.decoder_start_token_id,
        **(shape or WHISPER_TINY),
    )
    model.generation_config = generation
    model.save_pretrained(directory)
    WhisperProcessor(WhisperFeatureExtractor(), embedded.tokenizer).save_pretrained(directory)
    return directory


def save_moonshine(directory: Path) -> Path:
    """Moonshine in its default shape."""
    torch.manual_seed(0)
    tokens = {"bos_token_id": 504, "eos_token_id": 503, "pad_token_id": 503, "decoder_start_token_id": 504}
    model = MoonshineForConditionalGeneration(MoonshineConfig(**tokens)).eval()
    model.generation_config = GenerationConfig(**tokens, max_length=60)
    model.save_pretrained(directory)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(MODEL_DIRECTORY / "tokenizer.json"), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer).save_pretrained(directory)
    return directory
