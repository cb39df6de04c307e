"""CTranslate2 beside an oracle in plain torch, its prompt and rule beside transformers', and what it refuses."""

import copy
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip(
    "backends.ctranslate2._library",
    reason='ctranslate2 is not installed: pip install ".[ctranslate2]"',
    exc_type=ImportError,
)

import ctranslate2

from backends import (
    ModelError,
    PerChannel,
    PerTensor,
    QuantSpec,
    Supported,
    Unsupported,
    UnsupportedError,
    capability,
    quantize,
    quantize_spec,
)
from backends.core.generation import prompt_of
from backends.core.spec import EVERYTHING
from backends.ctranslate2 import _modules as modules
from backends.ctranslate2._files import read
from backends.ctranslate2._modules import convert
from harness.cost.operations import decoder_prompt
from tests.conftest import build_prompted_whisper, build_whisper

WHOLE = [str(kind) for kind in EVERYTHING]
ASKED = {
    "float32": {"scheme": "none", "granularity": "per_tensor", "bits": 32, "format": "fp32"},
    "int8": {"scheme": "dynamic", "granularity": "per_channel", "bits": 8, "modules": WHOLE},
    "int16": {"scheme": "dynamic", "granularity": "per_tensor", "bits": 16, "modules": WHOLE},
}
HERE = [
    pytest.param(kind, marks=pytest.mark.skipif(not there, reason=f"CTranslate2 has no {kind} on this processor"))
    for kind in ASKED
    for there in [kind in ctranslate2.get_supported_compute_types("cpu")]
]


def _error(found, expected):
    return float((found - expected).norm() / expected.norm())


def _rounded(values, largest, dim=None):
    """Codes of `largest` for the absolute maximum, along the last dimension or over all, as floats again."""
    peak = values.abs().amax() if dim is None else values.abs().amax(dim, keepdim=True)
    scale = largest / peak
    return (values * scale).round() / scale


def _oracle(model, kind):
    """The encoder as CTranslate2 is believed to compute it: linear layers round inputs, convolutions do not."""
    by_row = kind == "int8"
    largest, dim = (127, -1) if by_row else (1024, None)

    def round_input(module, inputs):
        return (_rounded(inputs[0], largest, dim),)

    for name, module in model.model.encoder.named_modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv1d):
            continue
        if by_row or not name.endswith(("q_proj", "k_proj", "v_proj")):
            weight = module.weight.data
            module.weight.data = _rounded(weight.flatten(1), largest, dim).reshape(weight.shape)
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(round_input)
    if not by_row:
        for layer in model.model.encoder.layers:
            _round_together([layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj])
    return model.get_encoder()


def _round_together(projections):
    joined = _rounded(torch.cat([module.weight.data for module in projections]), 1024)
    for module, weight in zip(projections, joined.chunk(len(projections)), strict=True):
        module.weight.data = weight


@pytest.mark.parametrize("kind", HERE[1:])
@torch.no_grad()
def test_the_encoder_computes_what_the_spec_says(kind, whisper_inputs):
    features = whisper_inputs["input_features"]
    full = build_prompted_whisper().get_encoder()(features).last_hidden_state
    expected = _oracle(build_prompted_whisper(), kind)(features).last_hidden_state
    quantized = quantize(build_prompted_whisper(), backend="ctranslate2", **ASKED[kind])
    found = quantized.model.encode(features)
    assert _error(found, expected) < 0.1 * _error(found, full)


@pytest.mark.parametrize("kind", HERE)
def test_weights_in_the_file_stand_for_the_models(kind):
    quantized = quantize(build_prompted_whisper(), backend="ctranslate2", **ASKED[kind])
    errors = [layer.weight_error for layer in quantized.report.layers]
    low, high = {"float32": (0, 0), "int8": (1e-3, 2e-2), "int16": (2e-4, 5e-3)}[kind]
    assert len(errors) == len([m for m in build_whisper().modules() if hasattr(m, "weight") and m.weight.dim() > 1]) - 2
    assert all(low <= error <= high for error in errors)
    inputs = {layer.kind for layer in quantized.report.layers if layer.float_inputs}
    assert inputs == (set() if kind == "float32" else {"conv", "embedding"})


def test_sixteen_bit_floats_are_read_too(tmp_path):
    model = build_prompted_whisper()
    model.config.save_pretrained(tmp_path / "configuration")
    for compute_type, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        converter = modules._InMemory(copy.deepcopy(model), tmp_path / "configuration")
        converter.convert(str(tmp_path / compute_type), quantization=compute_type)
        variables, aliases = read(tmp_path / compute_type / "model.bin")
        assert torch.equal(variables["encoder/conv1/weight"], model.model.encoder.conv1.weight.to(dtype))
        assert aliases["decoder/projection/weight"] == "decoder/embeddings/weight"


def test_another_layout_of_the_file_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes((7).to_bytes(4, "little"))
    with pytest.raises(ModelError, match="layout 7"):
        read(tmp_path / "model.bin")


@pytest.mark.parametrize("limit", [1, 3, 40, 440])
@torch.no_grad()
def test_prompt_cap_and_padding_are_those_of_transformers(limit, whisper_inputs):
    features = whisper_inputs["input_features"]
    model = build_prompted_whisper()
    model.generation_config.suppress_tokens = [7, 8, 400]
    model.generation_config.begin_suppress_tokens = [9, 2]
    settings = {"max_new_tokens": limit, "language": "en", "task": "translate"}
    with decoder_prompt(model) as prompt:
        expected = model.generate(input_features=features, **settings)
    quantized = quantize(model, backend="ctranslate2", **ASKED["float32"])
    assert torch.equal(quantized.model.generate(features, **settings), expected)
    assert quantized.model.prompt == prompt


@torch.no_grad()
def test_the_end_of_the_text_ends_it(whisper_inputs):
    features = whisper_inputs["input_features"]
    spoken = build_prompted_whisper().generate(input_features=features, max_new_tokens=20, language="en")
    model = build_prompted_whisper()
    model.generation_config.eos_token_id = model.config.eos_token_id = int(spoken[0, -1])
    expected = model.generate(input_features=features, max_new_tokens=20, language="en")
    quantized = quantize(model, backend="ctranslate2", **ASKED["float32"])
    assert torch.equal(quantized.model.generate(features, max_new_tokens=20, language="en"), expected)


@torch.no_grad()
def test_a_checkpoint_of_one_language_has_a_short_prompt(whisper_inputs):
    features = whisper_inputs["input_features"]
    model = build_prompted_whisper()
    del model.generation_config.lang_to_id, model.generation_config.task_to_id
    expected = model.generate(input_features=features, max_new_tokens=9)
    quantized = quantize(model, backend="ctranslate2", **ASKED["float32"])
    assert torch.equal(quantized.model.generate(features, max_new_tokens=9), expected)
    assert quantized.model.prompt == [500, 511]


def test_languages_are_found_by_code_token_and_name():
    config = build_prompted_whisper().generation_config
    assert {prompt_of(config, name, None)[1] for name in ("en", "English", "<|en|>")} == {501}
    with pytest.raises(UnsupportedError, match="no language 'de'"):
        prompt_of(config, "de", None)
    with pytest.raises(UnsupportedError, match="not detected"):
        prompt_of(config, None, None)
    with pytest.raises(UnsupportedError, match="no task 'sing'"):
        prompt_of(config, "en", "sing")


def test_what_has_other_rules_there_is_refused(whisper_inputs):
    generate = quantize(build_prompted_whisper(), backend="ctranslate2", **ASKED["float32"]).model.generate
    features = whisper_inputs["input_features"]
    with pytest.raises(UnsupportedError, match="num_beams = 1"):
        generate(features, max_new_tokens=5, num_beams=2, language="en")
    with pytest.raises(UnsupportedError, match="positions for 444"):
        generate(features, max_new_tokens=445, language="en")


def _without_timestamps():
    model = build_prompted_whisper()
    del model.generation_config.no_timestamps_token_id
    return model


def _with(**changes):
    model = build_prompted_whisper()
    for key, value in changes.items():
        setattr(model.generation_config, key, value)
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: torch.nn.Linear(4, 4), "not Linear"),
        (_without_timestamps, "no_timestamps_token_id"),
        (lambda: build_prompted_whisper().half(), "load the model so, for model.encoder.conv1"),
        (lambda: build_prompted_whisper(activation_function="relu"), "gelu, not relu"),
        (lambda: _with(eos_token_id=[2, 3]), "one token"),
        (lambda: _with(lang_to_id={"<|en|>": 4}), "outside 500 to 511"),
    ],
)
def test_models_that_it_cannot_convert_are_refused_before_a_weight_is_touched(model, reason):
    with pytest.raises(ModelError, match=reason):
        quantize(model(), backend="ctranslate2", **ASKED["int8"])


def test_another_compute_type_than_asked_for_is_an_error(monkeypatch):
    engine = SimpleNamespace(compute_type="float32")
    monkeypatch.setattr(modules.ctranslate2.models, "Whisper", lambda *_, **__: engine)
    with pytest.raises(ModelError, match="asked for int8 and runs float32"):
        convert(build_prompted_whisper(), "int8")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (QuantSpec("weight_only", PerChannel(), 8), "weights alone it does not"),
        (QuantSpec("dynamic", PerChannel(), 8), 'modules = \\["linear"'),
        (QuantSpec("dynamic", PerTensor(), 8, modules=EVERYTHING), "per_channel"),
        (QuantSpec("dynamic", PerChannel(), 8, symmetric=False, modules=EVERYTHING), "symmetric"),
        (QuantSpec("none", PerChannel(), 16, "fp16"), "no scales"),
    ],
)
def test_what_it_cannot_do_is_a_reason(spec, reason):
    with pytest.raises(UnsupportedError, match=reason):
        quantize_spec(build_prompted_whisper(), spec, "ctranslate2")


def test_what_the_machine_has_no_kernels_for_is_a_reason(monkeypatch):
    spec = QuantSpec("none", PerTensor(), 16, "fp16")
    monkeypatch.setattr(modules.ctranslate2, "get_supported_compute_types", lambda device: {"float32", "int8"})
    answer = capability(spec, "ctranslate2")
    assert isinstance(answer, Unsupported)
    assert answer.reason == "CTranslate2 has no float16 on this machine, only float32, int8"
    monkeypatch.setattr(modules.ctranslate2, "get_supported_compute_types", lambda device: {"float16"})
    assert isinstance(capability(spec, "ctranslate2"), Supported)
    assert isinstance(capability(spec, "ctranslate2", device="cuda"), Unsupported)
