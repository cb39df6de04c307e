"""Checkpoints of which something would be ignored, or whose parts are of different models: refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backends import AsrQuantError
from backends import __main__ as backends_command
from harness import grid, transcribe
from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY
from harness.experiment.tables import Decoding
from harness.recognition.loading import inspect_checkpoint, load_recognizer
from harness.records.reading import open_run
from tests.harness.publications import speech


def inspect(directory):
    inspect_checkpoint(directory, Decoding())


def linked(source, directory):
    """A copy of a checkpoint whose weights are those of the source."""
    directory.mkdir(parents=True)
    for path in source.iterdir():
        target = directory / path.name
        if path.suffix == ".safetensors":
            target.symlink_to(path.resolve())
        else:
            target.write_bytes(path.read_bytes())
    return directory


def edit(directory, name, **changes):
    """Set keys of a JSON file; `None` takes one away."""
    path = directory / name
    found = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in changes.items():
        found.pop(key, None)
        if value is not None:
            found[key] = value
    path.write_text(json.dumps(found))


def edit_features(directory, **changes):
    path = directory / "processor_config.json"
    found = json.loads(path.read_text())
    found["feature_extractor"] |= changes
    path.write_text(json.dumps(found))


def edit_weights(directory, change):
    path = directory / "model.safetensors"
    weights = load_file(path)
    change(weights)
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})


def quantized_by(**settings):
    return lambda directory: edit(directory, "config.json", quantization_config=settings)


def add_lora(weights):
    name = "model.decoder.layers.0.self_attn.q_proj"
    weights[f"{name}.lora_A.default.weight"] = torch.zeros(4, 256)
    weights[f"{name}.lora_B.default.weight"] = torch.zeros(256, 4)


def untie(weights):
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"] + 1


def code_weights(weights):
    name = "model.encoder.layers.0.fc1.weight"
    weights[name] = weights[name].to(torch.int8)


def only_adapter(directory):
    (directory / "model.safetensors").unlink()
    save_file({"lora_A": torch.zeros(2)}, directory / "adapter_model.safetensors")


def move_special_tokens(directory):
    """The tokenizer of a checkpoint with one token more before the special ones."""
    path = directory / "tokenizer.json"
    found = json.loads(path.read_text())
    for token in found["added_tokens"]:
        token["id"] -= 1
    path.write_text(json.dumps(found))


def tokenizer_with_more(directory):
    path = directory / "tokenizer.json"
    found = json.loads(path.read_text())
    found["added_tokens"].append({**found["added_tokens"][0], "id": 512, "content": "<|more|>"})
    path.write_text(json.dumps(found))


def doubled_settings(directory):
    own = json.loads((directory / "processor_config.json").read_text())["feature_extractor"]
    (directory / "preprocessor_config.json").write_text(json.dumps({**own, "n_fft": 512}))


WHISPER = {
    "an adapter beside the model": (
        lambda d: edit(d, "adapter_config.json", peft_type="LORA"),
        ["adapter_config.json", "merge"],
    ),
    "an adapter instead of the model": (only_adapter, ["adapter_model.safetensors", "merge"]),
    "an adapter that is not merged": (
        lambda d: edit_weights(d, add_lora),
        ["does not take model.decoder.layers.0.self_attn.q_proj.lora_A", "merged"],
    ),
    "fewer layers than weights": (
        lambda d: edit(d, "config.json", encoder_layers=3, num_hidden_layers=3),
        ["does not take model.encoder.layers.3.", "config.json"],
    ),
    "more layers than weights": (
        lambda d: edit(d, "config.json", encoder_layers=5, num_hidden_layers=5),
        ["lack model.encoder.layers.4."],
    ),
    "another width than the weights": (
        lambda d: edit(d, "config.json", decoder_ffn_dim=512),
        ["model.decoder.layers.0.fc1.weight", "other shapes"],
    ),
    "codes without a word": (lambda d: edit_weights(d, code_weights), ["model.safetensors", "I8", "quantized already"]),
    "weights cut off": (
        lambda d: ((d / "model.safetensors").unlink(), (d / "model.safetensors").write_bytes(b"\xff" * 100)),
        ["model.safetensors", "cut off"],
    ),
    "nf4": (quantized_by(quant_method="bitsandbytes", load_in_4bit=True), ["bitsandbytes load_in_4bit", "already"]),
    "int8 of bitsandbytes": (quantized_by(load_in_8bit=True), ["load_in_8bit", "quantized already"]),
    "gptq": (quantized_by(quant_method="gptq", bits=4), ["gptq", "quantized already"]),
    "hqq": (quantized_by(quant_method="hqq"), ["hqq", "quantized already"]),
    "fp8": (quantized_by(quant_method="fp8"), ["fp8", "quantized already"]),
    "compressed-tensors": (quantized_by(quant_method="compressed-tensors"), ["compressed-tensors", "already"]),
    "compression_config": (
        lambda d: edit(d, "config.json", compression_config={"format": "int-quantized"}),
        ["compression_config", "quantized already"],
    ),
    "mel bins of large-v3": (
        lambda d: edit_features(d, feature_size=128),
        ["feature_size is 128", "num_mel_bins is 80"],
    ),
    "mel bins in the model": (
        lambda d: (edit_features(d, feature_size=128), edit(d, "config.json", num_mel_bins=128)),
        ["model.encoder.conv1.weight", "other shapes"],
    ),
    "a window of 30 s": (lambda d: edit_features(d, chunk_length=30), ["frames is 1500", "window has 300"]),
    "another hop": (lambda d: edit_features(d, hop_length=80), ["frames is 1200", "window has 300"]),
    "another sampling rate": (lambda d: edit_features(d, sampling_rate=8000), ["sampling_rate is 8000", "16000"]),
    "two processors that disagree": (doubled_settings, ["n_fft is 512", "400"]),
    "no languages": (lambda d: edit(d, "generation_config.json", lang_to_id=None), ["lang_to_id is missing"]),
    "no tasks": (lambda d: edit(d, "generation_config.json", task_to_id=None), ["task_to_id is missing"]),
    "no token of no timestamps": (
        lambda d: edit(d, "generation_config.json", no_timestamps_token_id=None),
        ["no_timestamps_token_id is missing"],
    ),
    "no generation configuration": (
        lambda d: (d / "generation_config.json").unlink(),
        ["generation_config.json", "is missing", "copy the published"],
    ),
    "no end-of-text": (
        lambda d: [edit(d, name, eos_token_id=None) for name in ("config.json", "generation_config.json")],
        ["eos_token_id is missing"],
    ),
    "the end-of-text of another tokenizer": (
        lambda d: edit(d, "generation_config.json", eos_token_id=502),
        ["eos_token_id is 502", "503"],
    ),
    "padding with a word": (
        lambda d: edit(d, "generation_config.json", pad_token_id=7),
        ["pad_token_id is 7", "word", "503"],
    ),
    "padding with no token": (
        lambda d: edit(d, "generation_config.json", pad_token_id=-1),
        ["pad_token_id is -1", "no token of the model"],
    ),
    "the start of another tokenizer": (
        lambda d: edit(d, "generation_config.json", decoder_start_token_id=505),
        ["decoder_start_token_id is 505", "504"],
    ),
    "a language of another tokenizer": (
        lambda d: edit(d, "generation_config.json", lang_to_id={"<|en|>": 506}),
        ["<|en|> is 506", "505"],
    ),
    "the tokenizer of an English-only model": (move_special_tokens, ["eos_token_id is 503", "502"]),
    "a tokenizer with more tokens than the model": (tokenizer_with_more, ["the token 512", "vocab_size is 512"]),
    "a generation configuration that is no JSON": (
        lambda d: (d / "generation_config.json").write_text("{"),
        ["generation_config.json", "cannot be read"],
    ),
}
MOONSHINE = {
    "mel features": (lambda d: edit_features(d, feature_size=80), ["feature_size is 80", "samples"]),
    "speech at 8 kHz": (lambda d: edit_features(d, sampling_rate=8000), ["sampling_rate is 8000", "16000"]),
    "fewer layers than weights of Moonshine": (
        lambda d: edit(d, "config.json", decoder_num_hidden_layers=1),
        ["does not take model.decoder.layers.1."],
    ),
    "another end-of-text": (lambda d: edit(d, "generation_config.json", eos_token_id=7), ["eos_token_id is 7", "503"]),
}
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
