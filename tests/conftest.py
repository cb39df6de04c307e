"""Shared fixtures: small models of the true architectures, and where optional real speech lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real LibriSpeech utterances, where a developer has put some beside the repository."""

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def librispeech_root() -> Path:
    root = REAL_DATA / "librispeech" / "LibriSpeech"
    if not root.is_dir():
        pytest.skip("no real LibriSpeech utterances in ../shared/data/librispeech beside the repository")
    return root


def build_whisper(vocabulary: int = 512, width: int = 128, frames: int = 300, **changes: Any) -> Any:
    """A Whisper with random weights; every weight row is non-zero."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    settings = {
        "vocab_size": vocabulary,
        "d_model": width,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * width,
        "decoder_ffn_dim": 2 * width,
        "max_source_positions": frames // 2,
        "max_target_positions": 448,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**{**settings, **changes})).eval()
    model.get_input_embeddings().weight.data[0] = 0.01
    return model


def build_prompted_whisper(**changes: Any) -> Any:
    """A random Whisper with the tokens of a multilingual checkpoint: start, language, task, no timestamps."""
    from transformers import GenerationConfig

    model = build_whisper(decoder_start_token_id=500, **changes)
    model.generation_config = GenerationConfig(
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        decoder_start_token_id=500,
        lang_to_id={"<|en|>": 501},
        task_to_id={"transcribe": 503, "translate": 502},
        no_timestamps_token_id=511,
        return_timestamps=False,
        is_multilingual=True,
        suppress_tokens=[500, 501, 502, 503, 511],
    )
    return model


@pytest.fixture
def whisper() -> Any:
    return build_whisper()


@pytest.fixture(scope="session")
def whisper_inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_features": torch.randn(2, 80, 300, generator=generator),
        "decoder_input_ids": torch.randint(3, 500, (2, 7), generator=generator),
    }
