"""What is measured of a cell: columns that stand for the whole of it, or are empty."""

import json

import pytest
import torch
from safetensors.torch import save_file

from harness.execution.measured import apart, published
from harness.recognition.transcription import Transcription


def row(tokens, same_top, error=None):
    return {"reference_tokens": tokens, "reference_same_top": same_top, "error": error}


def test_the_divergence_is_that_of_all_references():
    rows = [row(2, 1), row(3, 3), row(0, None), row(4, None, "it cannot be decoded")]
    found = apart(Transcription(rows, divergences=[0.0, 1.0, 2.0, 3.0, 4.0]))
    assert found["same_top"] == 0.8
    assert (found["divergence_mean"], found["divergence_max"]) == (2.0, 4.0)
    assert found["divergence_p99"] == pytest.approx(3.96)


@pytest.mark.parametrize("rows", [[row(2, 1), row(3, None)], [row(2, None)], [row(0, None)], []])
def test_a_part_of_the_references_stands_for_nothing(rows):
    assert apart(Transcription(rows, divergences=[0.5, 0.5])) == {}


def test_the_narrowest_dtype_is_that_of_the_files_which_are_loaded(tmp_path):
    model = torch.nn.Linear(4, 4, bias=False)
    half = {"weight": torch.tensor([1.0 + 2**-10])}
    save_file(half, tmp_path / "model.safetensors")
    save_file({"weight": torch.tensor([1.0 + 2**-20])}, tmp_path / "model.fp32-00001-of-00001.safetensors")
    assert published(model, tmp_path) == {"checkpoint_parameters": 16, "narrowest_dtype": "float16"}
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"weight": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert published(model, tmp_path)["narrowest_dtype"] == "float16"
    save_file({"weight": torch.tensor([2.0**100])}, tmp_path / "model-00001-of-00001.safetensors")
    assert published(model, tmp_path)["narrowest_dtype"] == "bfloat16"
    save_file({"weight": torch.tensor([1.0 + 2**-20])}, tmp_path / "model-00001-of-00001.safetensors")
    assert published(model, tmp_path)["narrowest_dtype"] == "float32"
