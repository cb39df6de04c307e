"""ONNX Runtime beside torch: its cache, its ranges, its decoding loop, and what it refuses."""

import copy

import pytest
import torch

pytest.importorskip("onnxruntime", reason='onnxruntime is not installed: pip install ".[onnxruntime]"')
pytest.importorskip("onnxscript", reason='onnxscript is not installed: pip install ".[onnxruntime]"')

import onnx
from onnx import numpy_helper
from transformers import MoonshineConfig, MoonshineForConditionalGeneration

from backends import (
    CalibrationInput,
    ModelError,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    Supported,
    Unsupported,
    UnsupportedError,
    capability,
    quantize,
    quantize_spec,
    resolve,
)
from backends.onnxruntime import _processor
from tests.backends.onnx_models import generated, logits_of
from tests.conftest import build_prompted_whisper

pytestmark = pytest.mark.usefixtures("exported_once")


def _full_precision(model):
    return quantize(model, "none", "per_tensor", 32, format="fp32", backend="onnxruntime").model


def _moonshine():
    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        pad_token_id=0,
    )
    model = MoonshineForConditionalGeneration(config).eval()
    model.proj_out.weight.data.mul_(20)
    return model


@pytest.mark.parametrize("steps", [7, 1, [2, 4, 1]])
def test_tokens_at_once_and_step_by_step_have_the_logits_of_torch(steps, whisper_inputs):
    model = build_prompted_whisper()
    with torch.no_grad():
        expected = model(**whisper_inputs).logits
    found = logits_of(_full_precision(model), *whisper_inputs.values(), steps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_text_ends_where_transformers_ends_it(whisper_inputs):
    model, features = build_prompted_whisper(), whisper_inputs["input_features"]
    engine = _full_precision(copy.deepcopy(model))
    fourth = generated(model, features)[0, 3].item()
    for one in (model, engine):
        one.generation_config = copy.deepcopy(model.generation_config)
        one.generation_config.eos_token_id = fourth
    assert generated(engine, features).tolist() == generated(model, features).tolist()


@pytest.mark.slow
def test_moonshines_utterances_do_not_depend_on_the_padding_beside_them():
    model = _moonshine()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "layers" in name:
            parameter.data.normal_(0, 0.6, generator=generator)
    model.get_decoder().norm.weight.data.normal_(0, 10, generator=generator)
    rows = [torch.randn(1, samples, generator=generator) for samples in (16000, 9000)]
    with torch.no_grad():
        expected = [model.generate(input_values=row, max_new_tokens=12)[0].tolist() for row in rows]
    engine = _full_precision(model)
    padded = torch.zeros(2, 16000)
    mask = torch.zeros(2, 16000, dtype=torch.long)
    for place, row in enumerate(rows):
        padded[place, : row.shape[1]], mask[place, : row.shape[1]] = row[0], 1
    found = engine.generate(input_values=padded, attention_mask=mask, max_new_tokens=12)
    assert found.tolist() == expected
    assert len(set(expected[0])) > 3
    assert expected[0] != expected[1]
    assert engine.prompt == [1]


def _range(model, layer):
    """Scale and zero point of a layer's input in a graph."""
    nodes = {output: node for node in model.graph.node for output in node.output}
    (product,) = [n for n in model.graph.node if n.op_type == "MatMul" and f"{layer}.weight" in n.input[1]]
    rounding = nodes[nodes[product.input[0]].input[0]]
    assert rounding.op_type == "QuantizeLinear"
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return float(held[rounding.input[1]]), int(held[rounding.input[2]])


def test_static_ranges_are_those_of_the_calibration_speech_without_padding(whisper_inputs):
    model, layer = build_prompted_whisper(), "model.decoder.layers.0.fc1"
    inputs = copy.deepcopy(whisper_inputs)
    inputs["decoder_input_ids"][1, 3:] = 0
    seen = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    counted = torch.cat([seen[0][0], seen[0][1, :3]])
    batch = CalibrationInput(inputs, {"decoder": torch.tensor([7, 3])})
    found = quantize(model, "static", "per_channel", 8, backend="onnxruntime", calibration=[batch])
    low, high = min(0.0, float(counted.min())), max(0.0, float(counted.max()))
    assert (low, high) != (float(seen[0].min()), float(seen[0].max()))
    scale, zero = _range(onnx.load(found.model.directory / "decoder.onnx"), layer)
    assert scale == pytest.approx((high - low) / 255, rel=1e-4)
    assert zero == round(-low / scale)
    with pytest.raises(ModelError, match=r"pass calibration=\[...\]"):
        quantize(build_prompted_whisper(), "static", "per_channel", 8, backend="onnxruntime")


@pytest.mark.parametrize(
    ("spec", "options", "reason"),
    [
        (QuantSpec("weight_only", PerGroup(32), 2), {}, "40 times slower"),
        (QuantSpec("weight_only", PerGroup(32), 3), {}, "no codes of 3 bits"),
        (QuantSpec("dynamic", PerGroup(32), 6), {}, "no codes of 6 bits"),
        (QuantSpec("weight_only", PerGroup(48), 4), {}, "groups of 16, 32"),
        (QuantSpec("weight_only", PerChannel(), 8), {}, "use per_group"),
        (QuantSpec("static", PerGroup(32), 8), {}, "per_tensor or per_channel"),
        (QuantSpec("dynamic", PerChannel(), 4), {}, "have 8 bits, or 7"),
        (QuantSpec("dynamic", PerChannel(), 8, method="gptq"), {}, "for weights in groups"),
        (QuantSpec("dynamic", PerChannel(), 8, modules=["conv"]), {}, "leave embedding and conv out"),
        (QuantSpec("weight_only", PerGroup(32), 4), {"clip": True}, "options are those of ptq's methods"),
        (QuantSpec("weight_only", PerGroup(32), 4, method="hqq"), {}, "'hqq' is not one of awq"),
        (QuantSpec("none", PerTensor(), 16, "fp16"), {}, "use the backend cast"),
        (QuantSpec("weight_only", PerGroup(32), 4, rest="fp16"), {}, "leave rest out"),
    ],
)
def test_what_it_cannot_do_is_a_reason(spec, options, reason):
    answer = capability(spec, "onnxruntime", options)
    assert isinstance(answer, Unsupported)
    assert reason in answer.reason


def test_products_that_saturate_on_this_processor_are_refused(monkeypatch):
    spec = QuantSpec("dynamic", PerChannel(), 8, symmetric=True)
    monkeypatch.setattr(_processor, "products_are_exact", lambda: False)
    answer = capability(spec, "onnxruntime")
    assert isinstance(answer, Unsupported)
    assert "saturate" in answer.reason
    assert answer.elsewhere
    monkeypatch.setattr(_processor, "products_are_exact", lambda: True)
    assert isinstance(capability(spec, "onnxruntime"), Supported)


def test_defaults_are_those_of_ptq_in_groups_and_exact_elsewhere():
    for bits in (4, 8):
        spec = QuantSpec("weight_only", PerGroup(32), bits, method="gptq")
        assert resolve(spec, "onnxruntime")[0] == resolve(spec, "ptq")[0]
    assert resolve(QuantSpec("dynamic", PerChannel(), 8), "onnxruntime")[0].symmetric is False


def test_threads_are_torchs(whisper_inputs):
    engine = _full_precision(build_prompted_whisper())
    assert engine._decoder.get_session_options().intra_op_num_threads == torch.get_num_threads()


def _with(**changes):
    model = build_prompted_whisper()
    for key, value in changes.items():
        setattr(model.generation_config, key, value)
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: torch.nn.Linear(4, 4), "not Linear"),
        (lambda: build_prompted_whisper().half(), "load the model so, for model.encoder.conv1"),
        (lambda: _with(no_timestamps_token_id=None), "lacks no_timestamps_token_id"),
        (lambda: _with(min_length=5), "does not follow the generation configuration's min_length = 5"),
    ],
)
def test_models_that_it_would_decode_otherwise_are_refused(model, reason):
    with pytest.raises(ModelError, match=reason):
        quantize_spec(model(), QuantSpec("weight_only", PerGroup(32), 4), "onnxruntime")


def test_only_greedy_decoding_is_done(whisper_inputs):
    generate, features = _full_precision(build_prompted_whisper()).generate, whisper_inputs["input_features"]
    with pytest.raises(UnsupportedError, match="num_beams = 1"):
        generate(input_features=features, max_new_tokens=5, num_beams=2, language="en")
    with pytest.raises(UnsupportedError, match="positions for 444"):
        generate(input_features=features, max_new_tokens=445, language="en")
