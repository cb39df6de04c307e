"""ggml: codes beside an oracle, rounded inputs, the importance matrix, generation rules, and what is refused."""

import numpy as np
import pytest
import torch

pytest.importorskip("pywhispercpp", reason='pywhispercpp is not installed: pip install ".[ggml]"')

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
from backends.core.selection import candidates_for
from backends.ggml import _library as library
from backends.ggml._importance import importance
from backends.ggml._types import QUANTIZED
from harness.cost.operations import decoder_prompt
from tests.conftest import build_prompted_whisper

MATRICES = frozenset({"linear", "tied"})
TYPES = {kind.name: kind for kind in QUANTIZED}


def whisper(width=128, **changes):
    """A Whisper as whisper.cpp has it: its feed-forward layers are four times as wide."""
    return build_prompted_whisper(width=width, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, **changes)


def half(model):
    return quantize(model, "none", "per_tensor", 16, format="fp16", backend="ggml")


def asked(name, **fields):
    kind = TYPES[name]
    code = (kind.bits, kind.format, kind.symmetric)
    return QuantSpec("dynamic", PerGroup(kind.group), *code, **{"modules": MATRICES, **fields})


def logits(model, inputs):
    """Of the first window after the first tokens, (vocabulary,), by the engine or by torch."""
    features, tokens = inputs["input_features"][:1], inputs["decoder_input_ids"][:1]
    if isinstance(model, torch.nn.Module):
        return model(input_features=features, decoder_input_ids=tokens).logits[0, -1]
    model.context.encode(features[0].numpy(), 1)
    return torch.from_numpy(model.context.decode(tokens[0].tolist(), 1))


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def rounded(weight, name):
    """Rounding to nearest in groups of 32, as ggml defines its first types: scales are stored in float16."""
    bits, affine = int(name[1]), name.endswith("_1")
    rows = weight.reshape(-1, 32)
    if affine:
        low = rows.min(1, keepdims=True)
        scale = (rows.max(1, keepdims=True) - low) / (2**bits - 1)
        codes = np.floor((rows - low) / scale + 0.5)
    else:
        low = 0.0
        largest = np.take_along_axis(rows, np.abs(rows).argmax(1, keepdims=True), 1)
        scale = np.abs(largest) / 127 if bits == 8 else -largest / 2 ** (bits - 1)
        codes = np.round(rows / scale).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (codes * np.float16(scale).astype(float) + np.float16(low)).reshape(weight.shape)


@pytest.mark.parametrize("name", ["q8_0", "q5_0", "q5_1", "q4_0", "q4_1"])
def test_plain_codes_are_rounded_to_nearest(name):
    weight = np.random.default_rng(0).standard_normal((40, 96)).astype(np.float32)
    found = library.dequantized(TYPES[name], library.quantized(TYPES[name], weight), weight.shape)
    away = np.abs(found - rounded(weight, name))
    assert (away < 1e-3).mean() > 0.999  # the others lie between two codes
    assert away.max() < 0.6 if name.startswith("q4") else away.max() < 0.3


@pytest.mark.parametrize(("name", "bits"), [("q6_K", 6.5625), ("q5_K", 5.5), ("q4_K", 4.5), ("q3_K", 3.4375)])
def test_nested_codes_are_as_wide_and_as_exact_as_they_should_be(name, bits):
    weight = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    stored = library.quantized(TYPES[name], weight)
    assert len(stored) * 8 / weight.size == bits
    found = library.dequantized(TYPES[name], stored, weight.shape)
    assert 0.2 < error(torch.from_numpy(found), torch.from_numpy(weight)) * 2 ** TYPES[name].bits < 1.6


@pytest.mark.parametrize(("name", "width"), [("q8_0", 128), ("q5_0", 128), ("q6_K", 256)])
@torch.no_grad()
def test_products_round_their_inputs_in_groups(name, width, whisper_inputs):
    """One input is so large that the others in its group are rounded to zero, and its own weights are zero."""

    def outlier():
        model = whisper(width)
        model.model.decoder.layer_norm.weight[0] = 3e3
        model.get_input_embeddings().weight[:, 0] = 0
        return model

    size = TYPES[name].rounded_inputs
    expected, float_inputs = outlier(), outlier()
    expected.proj_out.register_forward_pre_hook(
        lambda module, inputs: (torch.cat([torch.zeros_like(inputs[0][..., :size]), inputs[0][..., size:]], -1),)
    )
    found = logits(quantize_spec(outlier(), asked(name), "ggml").model, whisper_inputs)
    if size == width:
        assert not found.any()
    else:
        assert error(found, logits(expected, whisper_inputs)) < 0.2 < error(found, logits(float_inputs, whisper_inputs))


@torch.no_grad()
def test_importance_is_the_mean_square_of_inputs_that_are_no_padding(whisper_inputs):
    model = whisper()
    modules = [c for c in candidates_for(model, asked("q4_0")) if c.kind != "conv"]
    inputs = CalibrationInput(whisper_inputs, {"decoder": torch.tensor([7, 3])})
    seen = {}
    model.proj_out.register_forward_pre_hook(lambda module, given: seen.update(head=given[0]))
    found = importance(model, modules, [inputs])
    counted = torch.cat([seen["head"][0], seen["head"][1, :3]])
    assert found.keys() == {c.name for c in modules}
    assert torch.from_numpy(found["proj_out"]) == pytest.approx(counted.square().mean(0), rel=1e-5)
    with pytest.raises(ModelError, match="needs calibration inputs"):
        importance(model, modules, None)


@pytest.mark.parametrize("name", TYPES)
def test_importance_lowers_the_weighted_error_or_is_refused(name):
    kind, random = TYPES[name], np.random.default_rng(0)
    weight = random.standard_normal((16, 512)).astype(np.float32)
    weights = np.exp(2 * random.standard_normal(512)).astype(np.float32)
    plain, weighted = (library.quantized(kind, weight, given) for given in (None, weights))
    if name == "q8_0":
        assert plain == weighted
        answer = capability(asked(name, method="imatrix"), "ggml")
        assert answer == Unsupported("ggml's q8_0 takes no importance matrix: leave the method out")
        return
    away = [library.dequantized(kind, stored, weight.shape) - weight for stored in (plain, weighted)]
    harm = [(one**2 * weights).sum() for one in away]
    assert harm[1] < 0.7 * harm[0]
    assert isinstance(capability(asked(name, method="imatrix"), "ggml"), Supported)


@pytest.mark.parametrize("limit", [1, 40, 440])
@torch.no_grad()
def test_prompt_cap_and_padding_are_those_of_transformers(limit, whisper_inputs, monkeypatch):
    model, features = whisper(), whisper_inputs["input_features"]
    model.generation_config.suppress_tokens = [7, 8, 400]
    model.generation_config.begin_suppress_tokens = [9, 2]
    settings = {"max_new_tokens": limit, "language": "en", "task": "translate"}
    with decoder_prompt(model) as prompt:
        expected = model.generate(input_features=features, **settings)
    engine = half(model).model
    assert torch.equal(engine.generate(features, **settings), expected)
    assert engine.prompt == prompt
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(engine.generate(features, **settings), expected)


@torch.no_grad()
def test_the_end_of_the_text_ends_it(whisper_inputs):
    features = whisper_inputs["input_features"]
    spoken = whisper().generate(input_features=features, max_new_tokens=20, language="en")
    model = whisper()
    model.generation_config.eos_token_id = model.config.eos_token_id = int(spoken[0, -1])
    expected = model.generate(input_features=features, max_new_tokens=20, language="en")
    assert torch.equal(half(model).model.generate(features, max_new_tokens=20, language="en"), expected)


def test_what_is_not_done_is_refused(whisper_inputs):
    generate, features = half(whisper()).model.generate, whisper_inputs["input_features"]
    with pytest.raises(UnsupportedError, match="num_beams = 1"):
        generate(features, max_new_tokens=5, num_beams=2, language="en")
    with pytest.raises(UnsupportedError, match="positions for 444"):
        generate(features, max_new_tokens=445, language="en")
    with pytest.raises(ModelError, match=r"features of \(80, 300\), not \(80, 200\)"):
        generate(features[..., :200], max_new_tokens=5, language="en")


def _moonshine():
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    return MoonshineForConditionalGeneration(
        MoonshineConfig(encoder_num_hidden_layers=1, decoder_num_hidden_layers=1, vocab_size=64, pad_token_id=0)
    )


def _untied():
    model = whisper()
    model.proj_out.weight = torch.nn.Parameter(model.proj_out.weight.clone())
    return model


def _wide():
    model = whisper()
    model.model.encoder.conv2.weight.data[0, 0, 0] = 7e4
    return model


def _with(**changes):
    model = whisper()
    for key, value in changes.items():
        setattr(model.generation_config, key, value)
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_moonshine, "alone, not MoonshineForConditionalGeneration"),
        (build_prompted_whisper, "encoder_ffn_dim = 512, not 256"),
        (lambda: whisper(activation_function="relu"), "activation_function = gelu, not relu"),
        (lambda: whisper(scale_embedding=True), "scale_embedding = False"),
        (lambda: whisper().half(), "load the model so, for model.encoder.conv1"),
        (_untied, "does not tie"),
        (_wide, "end at 65504, and beyond it go model.encoder.conv2"),
        (lambda: _with(no_timestamps_token_id=None), "no_timestamps_token_id"),
        (lambda: _with(eos_token_id=[2, 3]), "one token"),
        (lambda: _with(min_new_tokens=3), "min_new_tokens = 3"),
    ],
)
def test_models_that_it_cannot_hold_are_refused_before_a_weight_is_touched(model, reason):
    with pytest.raises(ModelError, match=reason):
        quantize_spec(model(), asked("q8_0"), "ggml")


def test_blocks_that_do_not_divide_rows_are_refused_with_what_does():
    with pytest.raises(ModelError, match=r"blocks of 256 .*k_proj with 128: use q4_0 \(int of 4 .*, q4_1 .*iq4_nl"):
        quantize_spec(whisper(), asked("q4_K"), "ggml")
    with pytest.raises(ModelError, match="multiples of 32 weights, not of 33"):
        library.quantized(TYPES["q4_0"], np.zeros((2, 33), np.float32))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (QuantSpec("weight_only", PerGroup(32), 8, modules=MATRICES), "round their inputs in every call"),
        (QuantSpec("dynamic", PerGroup(32), 8), 'modules = \\["linear", "tied"\\] and both parts'),
        (asked("q4_0", parts=frozenset({"encoder"})), "both parts"),
        (QuantSpec("dynamic", PerGroup(32), 7, modules=MATRICES), "int of 8 bits"),
        (QuantSpec("dynamic", PerChannel(), 8, modules=MATRICES), "use per_group:32"),
        (asked("q4_0", method="gptq"), "by the method rtn, or by imatrix"),
        (asked("q4_0", activations={"granularity": "per_token"}), "leave activations out"),
        (asked("q4_0", rest="fp16"), "leave rest out"),
        (asked("q4_0", recipe=[{"modules": ["tied"], "bits": 8}]), "matrices of a file in one type: leave recipe out"),
        (QuantSpec("none", PerTensor(), 32, "fp32"), "floats of 16 bits"),
        (QuantSpec("none", PerChannel(), 16, "fp16"), "no scales"),
    ],
)
def test_what_it_cannot_do_is_a_reason(spec, reason):
    with pytest.raises(UnsupportedError, match=reason):
        quantize_spec(whisper(), spec, "ggml")


def test_scales_within_a_token_are_refused_by_others():
    spec = QuantSpec("dynamic", PerChannel(), 8, activations={"granularity": "per_group:32"})
    for backend in ("ptq", "reference", "torchao", "torch_dynamic"):
        answer = capability(spec, backend)
        assert isinstance(answer, Unsupported)
        assert "within a token" in answer.reason or "not installed" in answer.reason


def test_defaults_are_the_types_own():
    spec, _ = resolve(QuantSpec("dynamic", PerGroup(32), 4, "q4_k", modules=MATRICES), "ggml")
    assert (spec.symmetric, spec.method, str(spec.activations)) == (False, "ggml", "int8:per_group:256:symmetric")
    spec, _ = resolve(QuantSpec("dynamic", PerGroup(32), 4, modules=MATRICES), "ggml")
    assert (spec.symmetric, spec.method, str(spec.activations)) == (True, "rtn", "int8:per_group:32:symmetric")
