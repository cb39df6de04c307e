"""The real clients of the hub against a server on loopback, then against their cache alone."""

import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from datasets import Audio, Dataset

from harness.embedded import SPEECH_DIRECTORY
from tests.harness.checkpoints import save_whisper
from tests.harness.hub import COMMIT, serving

EXPERIMENT = """
name = "hub"
[[model]]
path = "openai/whisper-tiny"
[[data]]
dataset = "librispeech"
split = "test-clean"
[[data]]
dataset = "librispeech"
split = "test-other"
limit = 2
[decoding]
batch_size = 2
max_new_tokens = 5
[run]
device = "cpu"
workers = 1
[[grid]]
backend = "quanto"
bits = 8
"""
README = """---
configs:
- config_name: clean
  data_files:
  - split: test
    path: clean/test/*
- config_name: other
  data_files:
  - split: test
    path: other/test/*
---
"""


def write_parquet(path: Path, split: str) -> None:
    """Four utterances of the embedded speech in LibriSpeech's schema."""
    chapter = next(sorted((SPEECH_DIRECTORY / split).glob("*/1"))[0].glob("*.trans.txt"))
    lines = [line.partition(" ") for line in chapter.read_text().splitlines()[:4]]
    table = Dataset.from_list(
        [
            {
                "file": f"{name}.flac",
                "audio": {"path": f"{name}.flac", "bytes": (chapter.parent / f"{name}.ogg").read_bytes()},
                "text": text,
                "speaker_id": int(name.split("-")[0]),
                "chapter_id": 1,
                "id": name,
            }
            for name, _, text in lines
        ]
    ).cast_column("audio", Audio(sampling_rate=16000))
    path.parent.mkdir(parents=True)
    table.to_parquet(path)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    data = root / "librispeech_asr"
    data.mkdir()
    (data / "README.md").write_text(README)
    write_parquet(data / "clean" / "test" / "0000.parquet", "clean")
    write_parquet(data / "other" / "test" / "0000.parquet", "other")
    model = save_whisper(root / "model", width=128, encoder_layers=1, decoder_layers=1)
    return {("models", "openai/whisper-tiny"): model, ("datasets", "openslr/librispeech_asr"): data}


def run(experiment, endpoint, cache, out):
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "harness.grid", str(experiment), "--out", str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_from_the_hub_then_from_the_cache_alone(repositories, tmp_path):
    experiment = tmp_path / "hub.toml"
    experiment.write_text(EXPERIMENT)
    cache = tmp_path / "cache"

    with serving(repositories) as endpoint:
        online = run(experiment, endpoint, cache, tmp_path / "online")
    assert online.returncode == 0, online.stderr + online.stdout
    offline = run(experiment, endpoint, cache, tmp_path / "offline")
    assert offline.returncode == 0, offline.stderr + offline.stdout

    first, second = (pandas.read_csv(tmp_path / name / "hub" / "results.csv") for name in ("online", "offline"))
    assert list(first["status"]) == ["done"] * 4
    assert list(first["utterances"]) == [4, 2, 4, 2]
    assert list(first["cell_id"]) == list(second["cell_id"])
    identity = (tmp_path / "online" / "hub" / "cells" / first["cell_id"][0] / "cell.json").read_text()
    assert COMMIT in identity


def test_without_hub_and_cache_one_sentence(tmp_path):
    experiment = tmp_path / "hub.toml"
    experiment.write_text(EXPERIMENT)
    done = run(experiment, "http://127.0.0.1:9", tmp_path / "empty", tmp_path / "runs")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: openai/whisper-tiny is no directory here, it is not in the cache, and the hub cannot be reached: try "
        'the experiment embedded, which needs no network, or give path = "path/to/directory" in [[model]]'
    ]


def test_what_the_hub_does_not_have(repositories, tmp_path):
    experiment = tmp_path / "hub.toml"
    experiment.write_text(EXPERIMENT.replace("whisper-tiny", "whisper-tinny"))
    with serving(repositories) as endpoint:
        done = run(experiment, endpoint, tmp_path / "cache", tmp_path / "runs")
    assert done.returncode == 2
    assert "neither a local directory nor on the hub" in done.stderr
    assert "Traceback" not in done.stderr
