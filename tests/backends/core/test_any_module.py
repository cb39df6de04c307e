"""The adapters in other people's code: any module with linear layers."""

import pytest
import torch
from torch import nn

from backends import Activations, CheckpointError, ModelError, load, quantize
from tests.backends.cases import require
from tests.conftest import build_whisper

THREE_LINES = [
    ("hqq", "weight_only", "per_group:32", 4, {}),
    ("quanto", "weight_only", "per_channel", 8, {}),
    ("quanto", "static", "per_channel", 8, {"format": "fp8_e4m3", "activations": Activations(8, "fp8_e4m3")}),
    ("bitsandbytes", "weight_only", "per_group:32", 4, {"format": "nf4"}),
    ("torch_dynamic", "dynamic", "per_channel", 8, {}),
    ("torch_static", "static", "per_channel", 8, {"options": {"reduce_range": True}}),
    ("reference", "weight_only", "per_group:32", 3, {}),
    ("quanto", "weight_only", "per_group:32", 4, {}),
    ("torchao", "weight_only", "per_channel", 8, {}),
    ("torchao", "weight_only", "per_group:32", 4, {}),
    ("torchao", "dynamic", "per_channel", 8, {}),
    ("torchao", "static", "per_channel", 8, {"method": "smoothquant"}),
]


def build_moonshine():
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=128,
        hidden_size=288,
        intermediate_size=1152,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        pad_token_id=0,
    )
    return MoonshineForConditionalGeneration(config).eval(), {
        "input_values": torch.randn(2, 8000),
        "decoder_input_ids": torch.ones(2, 4, dtype=torch.long),
    }


def build_wav2vec2():
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=32,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=128,
        conv_dim=(32, 32),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_feat_extract_layers=2,
    )
    return Wav2Vec2ForCTC(config).eval(), {"input_values": torch.randn(2, 4000)}


@pytest.mark.parametrize("build", [build_moonshine, build_wav2vec2], ids=["moonshine", "wav2vec2"])
@pytest.mark.parametrize(("backend", "scheme", "granularity", "bits", "settings"), THREE_LINES, ids=lambda v: str(v))
def test_transformers_models(build, backend, scheme, granularity, bits, settings, tmp_path):
    require(backend, scheme, bits, settings.get("options"))
    model, inputs = build()
    result = quantize(model, scheme, granularity, bits, backend=backend, calibration=[inputs], **settings)
    result.save(tmp_path)
    with torch.no_grad():
        expected = result.model(**inputs).logits
        assert torch.equal(load(tmp_path).model(**inputs).logits, expected)
    quantized = [layer for layer in result.report.layers if layer.effective is not None]
    assert quantized
    assert all(layer.kind == "linear" for layer in quantized)


@pytest.mark.parametrize(("backend", "scheme", "granularity", "bits", "settings"), THREE_LINES, ids=lambda v: str(v))
def test_plain_modules(backend, scheme, granularity, bits, settings, tmp_path):
    require(backend, scheme, bits, settings.get("options"))

    def build():
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16, bias=False))

    inputs = torch.randn(5, 64)
    result = quantize(build(), scheme, granularity, bits, backend=backend, calibration=[inputs], **settings)
    result.save(tmp_path)
    with pytest.raises(CheckpointError, match="model="):
        load(tmp_path)
    assert torch.equal(load(tmp_path, model=build()).model(inputs), result.model(inputs))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_parts(part):
    result = quantize(build_whisper(), "weight_only", "per_channel", 8, backend="quanto", parts=[part])
    names = [layer.name for layer in result.report.layers if layer.effective is not None]
    assert names
    assert all(f"model.{part}." in name for name in names)


def test_quantizing_the_head_breaks_the_tie_and_keeps_the_embedding():
    model = build_whisper()
    embedding = model.get_input_embeddings().weight.detach().clone()
    result = quantize(model, "weight_only", "per_channel", 8, backend="quanto", modules=["linear", "head"])
    assert torch.equal(result.model.get_input_embeddings().weight, embedding)
    head = next(layer for layer in result.report.layers if layer.kind == "head")
    assert head.effective is not None
    tied = quantize(build_whisper(), "weight_only", "per_channel", 8, backend="quanto")
    assert tied.report.size_bytes < result.report.size_bytes


def test_bitsandbytes_computation_does_not_follow_the_training_flag():
    model = nn.Sequential(nn.Linear(64, 64))
    inputs = torch.randn(3, 64)
    result = quantize(model, "weight_only", "per_channel", 8, backend="bitsandbytes")
    expected = result.model(inputs)
    for mode in (True, False):
        assert torch.equal(result.model.train(mode)(inputs), expected)


def test_an_unknown_directory_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"quantization\.json"):
        load(tmp_path)


@pytest.mark.parametrize("number_format", ["bf16", "fp16"])
def test_a_cast_leaves_rotary_frequencies_as_they_are_computed(number_format, tmp_path):
    model, inputs = build_moonshine()
    result = quantize(model, "none", "per_tensor", 16, backend="cast", format=number_format)
    result.save(tmp_path)
    halves = {k: v.to(result.model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    frequencies = [b for name, b in result.model.named_buffers() if "inv_freq" in name]
    assert frequencies
    assert all(b.dtype == torch.float32 for b in frequencies)
    with torch.no_grad():
        assert torch.equal(result.model(**halves).logits, load(tmp_path).model(**halves).logits)


def test_quanto_never_compiles(tmp_path, monkeypatch):
    from optimum.quanto.library.extensions.extension import Extension

    def compiled(self):
        raise AssertionError("the extension was asked for")

    monkeypatch.setattr(Extension, "lib", property(compiled))
    inputs = torch.randn(2, 64)

    def build():
        return nn.Sequential(nn.Linear(64, 64))

    for bits in (4, 2):
        result = quantize(build(), "weight_only", "per_group:32", bits, backend="quanto")
        result.save(tmp_path / str(bits))
        assert torch.equal(load(tmp_path / str(bits), build()).model(inputs), result.model(inputs))


@pytest.mark.parametrize(
    "other",
    [
        lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)),
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8), nn.Linear(8, 8)),
    ],
)
def test_a_module_that_is_not_like_the_saved_one_is_refused(other, tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    quantize(model, "weight_only", "per_channel", 8, backend="reference").save(tmp_path)
    with pytest.raises(CheckpointError, match="not like the saved one"):
        load(tmp_path, other())


@pytest.mark.parametrize("model", [None, "openai/whisper-small"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ModelError, match="load the checkpoint first"):
        quantize(model, "weight_only", "per_channel", 8, backend="reference")


def test_a_single_layer_is_refused():
    with pytest.raises(ModelError, match=r"put it into an nn\.Sequential"):
        quantize(nn.Linear(64, 64), "weight_only", "per_channel", 8, backend="reference")


@pytest.mark.parametrize("name", ["quantization.json", "config.json", "generation_config.json"])
def test_a_changed_number_is_found(name, tmp_path):
    quantize(build_whisper(), "weight_only", "per_channel", 8, backend="reference").save(tmp_path)
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text.replace("1", "2", 1))
    with pytest.raises(CheckpointError, match=r"altered|format_version"):
        load(tmp_path)


def test_altered_files_are_refused(tmp_path):
    quantize(nn.Sequential(nn.Linear(64, 64)), "weight_only", "per_channel", 8, backend="quanto").save(tmp_path)
    weights = tmp_path / "quantized.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="altered"):
        load(tmp_path, nn.Sequential(nn.Linear(64, 64)))
    weights.write_bytes(whole)
    (tmp_path / "quantization.json").write_text("{")
    with pytest.raises(CheckpointError, match="altered"):
        load(tmp_path)
