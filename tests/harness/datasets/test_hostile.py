"""Checkpoints, experiment files and speech from people who mean harm, or whose disks do."""

import json
import os
import pickle
import shutil

import pandas
import pytest

from backends import CheckpointError, load, quantize
from harness import compare
from harness.embedded import MODEL_DIRECTORY
from harness.errors import AsrQuantError
from harness.experiment.config import load_experiment
from harness.recognition.loading import load_recognizer
from tests.harness.hostile import EMBEDDED, EXPERIMENT, run


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it-ran"


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(MODEL_DIRECTORY, tmp_path / "model")


def test_the_payload_works(marker):
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "training_args.bin"])
def test_a_pickle_in_a_checkpoint_does_not_run(tmp_path, model, marker, capsys, name):
    (model / name).write_bytes(pickle.dumps(Payload(marker)))
    if name == "pytorch_model.bin":
        (model / "model.safetensors").unlink()
    status = run(tmp_path, model)
    assert not marker.exists()
    if name == "pytorch_model.bin":
        assert status == 2
        assert "no weights in safetensors; convert the checkpoint first" in capsys.readouterr().err
    elif name == "model.safetensors":
        assert status == 2
        assert "cannot be read as safetensors" in capsys.readouterr().err
    else:
        rows = pandas.read_parquet(tmp_path / "hostile" / "results.parquet")
        assert set(rows["status"]) == {"done"}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, model, marker, name):
    (model / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    path = model / name
    content = json.loads(path.read_text()) if path.is_file() else {}
    names = ("AutoConfig", "AutoModelForSpeechSeq2Seq", "AutoProcessor", "AutoFeatureExtractor")
    content["auto_map"] = {**dict.fromkeys(names, "evil.Evil"), "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    content.pop("model_type", None)
    path.write_text(json.dumps(content))
    assert run(tmp_path, model) in (0, 2)
    assert not marker.exists()


def test_a_pickle_in_a_saved_quantized_model_does_not_run(tmp_path, marker):
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    quantize(recognizer.model, "weight_only", "per_channel", 8, backend="reference").save(tmp_path / "saved")
    (tmp_path / "saved" / "quantized.safetensors").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(CheckpointError, match=r"quantized\.safetensors: incomplete or altered"):
        load(tmp_path / "saved")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/b", "..", ".", "", "a\x00b", "a\nb", "C:\\x", "-x", "x" * 200])
def test_names_stay_in_the_output_directory(tmp_path, name):
    path = tmp_path / "x.toml"
    path.write_text(EXPERIMENT.format(model='"embedded"', data=EMBEDDED))
    with pytest.raises(AsrQuantError, match="name"):
        load_experiment(path, [f"name={json.dumps(name)}"])


@pytest.mark.parametrize("where", ["description", "model.0.path", "data.0.name", "run.output"])
def test_text_that_steers_a_terminal_is_refused(tmp_path, where):
    path = tmp_path / "x.toml"
    path.write_text(EXPERIMENT.format(model='[{ path = "embedded" }]', data=EMBEDDED))
    with pytest.raises(AsrQuantError, match="control characters are not allowed") as raised:
        load_experiment(path, [f'{where}="\\u001b[2J"'])
    assert "\x1b" not in str(raised.value)


def test_transcripts_do_not_steer_a_terminal(tmp_path, capsys):
    for name, heard in (("ref", "the cat"), ("a", "\x1b[2J\x1b]0;owned\x07 cat"), ("b", "\u202ethe bat")):
        (tmp_path / name).write_text(f"u1\t{heard}\nu2\tthe dog\n")
    arguments = ["--ref", *(str(tmp_path / name) for name in ("ref", "a", "b"))]
    assert compare.main(arguments) == 0
    said = capsys.readouterr().out
    assert "\\x1b[2J" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
