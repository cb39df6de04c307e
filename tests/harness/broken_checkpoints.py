"""Checkpoints with one thing changed of which something would be ignored, and the sentence that is due."""

import json

import torch
from safetensors.torch import load_file, save_file


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
