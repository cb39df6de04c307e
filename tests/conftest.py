"""Shared fixtures: small models of the true architectures, and where optional real speech lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from backends.testing import small_inputs
from backends.testing import small_whisper as build_whisper

__all__ = ["build_prompted_whisper", "build_whisper"]

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real LibriSpeech utterances, where a developer has put some beside the repository."""

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the commands under test: threads that spin on busy cores take minutes


LONG = ("test_grid", "test_ray", "test_engines", "test_contract", "test_notebooks", "test_sharing")
"""Files that take a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no process is left with one at the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def librispeech_root() -> Path:
    root = REAL_DATA / "librispeech" / "LibriSpeech"
    if not root.is_dir():
        pytest.skip("no real LibriSpeech utterances in ../shared/data/librispeech beside the repository")
    return root


@pytest.fixture(scope="session")
def real_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the real whisper-tiny.en, made once and kept beside pytest's own temporary directories."""
    maker = REAL_DATA.parent / "real" / "get"
    if not maker.is_file():
        pytest.skip("nothing in ../shared/real beside the repository makes real checkpoints")
    base = tmp_path_factory.getbasetemp()
    root = next((parent for parent in base.parents if parent.name.startswith("pytest-of-")), base)
    made = root / "real-whisper" / "whisper-tiny.en"
    if not (made / "OK").is_file():
        try:
            subprocess.run([str(maker), str(made.parent), sys.executable], check=True, capture_output=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"the real checkpoint cannot be made: {error}")
    return made


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
    return small_inputs()
