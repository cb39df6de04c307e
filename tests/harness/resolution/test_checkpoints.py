"""Checkpoints of which something would be ignored, or whose parts are of different models: refused by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backends import AsrQuantError
from backends import __main__ as backends_command
from harness import grid, transcribe
from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY
from harness.experiment.tables import Decoding
from harness.recognition.loading import inspect_checkpoint, load_recognizer
from harness.records.reading import open_run
from tests.harness.broken_checkpoints import MOONSHINE, WHISPER, edit, edit_features, edit_weights, linked, untie
from tests.harness.publications import speech


def inspect(directory):
    inspect_checkpoint(directory, Decoding())


CASES = [(name, MODEL_DIRECTORY, *case) for name, case in WHISPER.items()]
CASES += [(name, MOONSHINE_DIRECTORY, *case) for name, case in MOONSHINE.items()]


@pytest.mark.parametrize(
    ("source", "change", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_would_be_ignored_is_refused_by_name(source, change, sentence, tmp_path):
    directory = linked(source, tmp_path / "checkpoint")
    change(directory)
    said = []
    for look in (inspect, lambda path: load_recognizer(path, "float32", "cpu")):
        with pytest.raises(AsrQuantError) as refused:
            look(directory)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert all(piece in said[0] for piece in [str(directory), *sentence]), said[0]


@pytest.mark.parametrize("source", [MODEL_DIRECTORY, MOONSHINE_DIRECTORY], ids=lambda path: path.name)
def test_what_fits_together_is_taken(source):
    inspect(source)


@pytest.mark.parametrize("token", [None, 504, 506], ids=["none", "start", "task"])
def test_padding_that_is_no_word_is_taken(token, tmp_path):
    directory = linked(MODEL_DIRECTORY, tmp_path / "checkpoint")
    edit(directory, "generation_config.json", pad_token_id=token)
    inspect(directory)


def test_a_tied_head_that_is_the_embedding_is_taken(tmp_path):
    directory = linked(MODEL_DIRECTORY, tmp_path / "checkpoint")
    edit_weights(directory, lambda w: w.update({"proj_out.weight": w["model.decoder.embed_tokens.weight"].clone()}))
    inspect(directory)


def test_a_head_of_its_own_is_honoured_in_spite_of_the_tie(tmp_path):
    directory = linked(MODEL_DIRECTORY, tmp_path / "checkpoint")
    edit_weights(directory, untie)
    inspect(directory)
    model = load_recognizer(directory, "float32", "cpu").model
    stored = load_file(directory / "model.safetensors")["proj_out.weight"]
    assert torch.equal(model.proj_out.weight, stored.float())
    assert not torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight)


EXPERIMENT = """
name = "refused"
[[model]]
path = "{model}"
[[model]]
path = "{broken}"
[[data]]
dataset = "folder"
name = "mine"
root = "{speech}"
split = "clean"
[run]
device = "cpu"
output = "{out}"
[[grid]]
backend = "quanto"
scheme = "weight_only"
granularity = "per_channel"
bits = 8
"""


def test_the_grid_refuses_one_model_and_does_the_other(tmp_path, capsys):
    broken = linked(MODEL_DIRECTORY, tmp_path / "broken")
    edit_features(broken, chunk_length=30)
    speech(tmp_path / "speech" / "clean", "clean", 2)
    places = {"model": MODEL_DIRECTORY, "broken": broken, "speech": tmp_path / "speech", "out": tmp_path / "runs"}
    (tmp_path / "refused.toml").write_text(EXPERIMENT.format(**places))
    assert grid.main([str(tmp_path / "refused.toml")]) == 0
    rows = open_run(tmp_path / "runs" / "refused").results()
    assert [(Path(row["model"]).name, row["status"]) for row in rows] == [
        ("model", "done"),
        ("broken", "unsupported"),
        ("model", "done"),
        ("broken", "unsupported"),
    ]
    assert all("window has 300" in row["reason"] for row in rows if row["status"] == "unsupported")
    capsys.readouterr()
    assert grid.main([str(tmp_path / "refused.toml"), "--set", f'model="{broken}"', "--set", 'name="alone"']) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs" / "alone" / "experiment.json").exists()


def test_a_model_that_is_refused_when_it_is_loaded_is_status_2_too(tmp_path, capsys):
    broken = linked(MODEL_DIRECTORY, tmp_path / "broken")
    edit(broken, "config.json", encoder_layers=3, num_hidden_layers=3)
    speech(tmp_path / "speech" / "clean", "clean", 2)
    places = {"model": MODEL_DIRECTORY, "broken": broken, "speech": tmp_path / "speech", "out": tmp_path / "runs"}
    (tmp_path / "refused.toml").write_text(EXPERIMENT.format(**places))
    assert grid.main([str(tmp_path / "refused.toml"), "--set", f'model="{broken}"']) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "does not take model.encoder.layers.3." in said) == (1, True)


@pytest.mark.parametrize("command", ["quantize", "transcribe"])
def test_the_other_commands_refuse_it_too(command, tmp_path, capsys):
    broken = linked(MODEL_DIRECTORY, tmp_path / "broken")
    edit_features(broken, feature_size=128)
    if command == "quantize":
        asked = ["quantize", str(broken), str(tmp_path / "out"), "--backend", "hqq", "--bits", "4"]
        assert backends_command.main(asked) == 2
    else:
        assert transcribe.main([str(broken), str(tmp_path / "speech.wav")]) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "feature_size is 128" in said) == (1, True)
    assert not (tmp_path / "out").exists()
