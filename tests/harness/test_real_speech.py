"""Models in published shapes, with random weights, through the same command on real LibriSpeech utterances."""

import pandas
import pytest

from harness.grid import main
from tests.harness.checkpoints import save_moonshine, save_whisper

pytestmark = pytest.mark.slow

EXPERIMENT = """
name = "real"
model = "{model}"
[[data]]
dataset = "librispeech"
split = "test-clean"
root = "{root}"
limit = 3
[[data]]
dataset = "librispeech"
split = "test-other"
root = "{root}"
limit = 2
[decoding]
batch_size = 2
max_new_tokens = 6
[run]
device = "cpu"
[[grid]]
backend = "torch_dynamic"
scheme = "dynamic"
bits = 8
[[grid]]
backend = ["hqq", "quanto"]
granularity = "per_group:32"
bits = 4
[[grid]]
backend = "bitsandbytes"
granularity = ["per_group:32", "per_group:64"]
bits = 4
format = "nf4"
"""


@pytest.mark.parametrize("save", [save_whisper, save_moonshine])
def test_real_speech(save, librispeech_root, tmp_path):
    model = save(tmp_path / "model")
    path = tmp_path / "real.toml"
    path.write_text(EXPERIMENT.format(model=model, root=librispeech_root))
    assert main([str(path), "--out", str(tmp_path)]) == 0
    frame = pandas.read_parquet(tmp_path / "real" / "results.parquet")
    assert len(frame) == 12
    expected = {"done"} if save is save_whisper else {"done", "unsupported"}
    assert set(frame["status"]) == expected
    refused = frame.query("status == 'unsupported'")
    assert set(refused["granularity"] + ":" + refused["group_size"].astype(str)) <= {"per_group:64"}
    done = frame.query("status == 'done'")
    assert (done["reference_words"] > 10).all()
    assert (done["audio_seconds"] > 5).all()
