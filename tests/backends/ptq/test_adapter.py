"""The methods through the door: on models, saved and restored."""

import pytest
import torch
from torch import nn

from backends import Activations, ModelError, load, quantize, quantize_spec
from backends.core.manifest import WEIGHTS
from backends.ptq import BACKEND, methods
from backends.ptq._rules import BLOCKWISE
from backends.ptq.spqr import MOST
from tests.backends.core.test_any_module import build_wav2vec2
from tests.conftest import build_whisper


def quantized(inputs, scheme="weight_only", granularity="per_channel", bits=3, method="gptq", **settings):
    options = {"epochs": 1} if method in BLOCKWISE else {}
    options |= settings.pop("options", {})
    return quantize(
        build_whisper(), scheme, granularity, bits, backend="ptq", method=method, calibration=[inputs] * 2,
        options=options, **settings,
    )  # fmt: skip


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def survives_saving(result, inputs, directory):
    """Bit-equal logits, words and report, and a file of as many bytes as were counted."""
    result.save(directory)
    restored = load(directory)
    assert torch.equal(logits(restored.model, inputs), logits(result.model, inputs))
    words = [
        m.generate(input_features=inputs["input_features"], max_new_tokens=8) for m in (restored.model, result.model)
    ]
    assert torch.equal(*words)
    assert restored.report == result.report
    file = directory / WEIGHTS
    header = int.from_bytes(file.read_bytes()[:8], "little") + 8
    assert file.stat().st_size - header == pytest.approx(result.report.size_bytes, rel=0.01)


@pytest.mark.parametrize("granularity", ["per_channel", "per_group:32"])
@pytest.mark.parametrize("method", methods())
def test_every_method_at_three_bits(method, granularity, whisper_inputs, tmp_path):
    result = quantized(whisper_inputs, granularity=granularity, method=method)
    expected = logits(build_whisper(), whisper_inputs)
    found = logits(result.model, whisper_inputs)
    assert (found - expected).norm() < 0.6 * expected.norm()
    again = quantized(whisper_inputs, granularity=granularity, method=method)
    assert torch.equal(logits(again.model, whisper_inputs), found)
    survives_saving(result, whisper_inputs, tmp_path)


@pytest.mark.parametrize(
    "asked",
    [
        {"granularity": "per_group:32", "bits": 3},
        {"method": "gptaq", "bits": 5},
        {
            "bits": 4,
            "rest": "fp16",
            "recipe": [{"modules": ["tied"], "bits": 6}, {"parts": ["encoder"], "method": "gptaq"}],
        },
    ],
)
def test_sizes_are_known_without_calibration(asked, whisper_inputs):
    result = quantized(whisper_inputs, **asked)
    quick = BACKEND.sized_as(result.spec, result.options)
    assert quick != result.spec
    assert quantize_spec(build_whisper(), quick, "ptq").report.size_bytes == result.report.size_bytes


@pytest.mark.parametrize("asked", [{"method": "awq"}, {"method": "gptq", "options": {"smooth": 0.5}}])
def test_sizes_of_others_are_known_afterwards(asked, whisper_inputs):
    result = quantized(whisper_inputs, **asked)
    assert BACKEND.sized_as(result.spec, result.options) is None


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize(
    ("scheme", "bits", "activations"),
    [("dynamic", 8, None), ("static", 8, None), ("dynamic", 4, Activations(8, granularity="per_token"))],
)
def test_rounded_activations(scheme, bits, activations, method, whisper_inputs, tmp_path):
    result = quantized(whisper_inputs, scheme, bits=bits, activations=activations, method=method)
    expected = logits(build_whisper(), whisper_inputs)
    error = (logits(result.model, whisper_inputs) - expected).norm() / expected.norm()
    assert 0 < error < (0.1 if bits == 8 else 0.4)
    survives_saving(result, whisper_inputs, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"clip": True},
        {"smooth": 0.5},
        {"rotate": True},
        {"low_rank": 4},
        {"smooth": 0.5, "rotate": True, "low_rank": 2, "clip": True},
    ],
    ids=str,
)
def test_options_go_with_another_method_and_survive_saving(options, whisper_inputs, tmp_path):
    result = quantized(whisper_inputs, bits=4, options=options)
    expected = logits(build_whisper(), whisper_inputs)
    assert (logits(result.model, whisper_inputs) - expected).norm() < 0.3 * expected.norm()
    survives_saving(result, whisper_inputs, tmp_path)


def test_stored_bits_of_groups(whisper_inputs):
    result = quantized(whisper_inputs, granularity="per_group:64")
    assert result.report.effective_bits == pytest.approx(3 + 16 / 64 + 3 / 64, rel=0.02)


def test_spqr_reports_its_outliers_and_small_scales(whisper_inputs):
    few = quantized(whisper_inputs, granularity="per_group:32", method="spqr", options={"outlier_threshold": 1e9})
    some = quantized(whisper_inputs, granularity="per_group:32", method="spqr")
    plain = quantized(whisper_inputs, granularity="per_group:32")
    assert few.report.effective_bits == pytest.approx(3 + (3 + 32 / 16) / 32 + 3 / 32, rel=0.02)
    assert few.report.effective_bits < plain.report.effective_bits
    assert few.report.effective_bits < some.report.effective_bits < few.report.effective_bits + 48 * MOST + 0.01


def test_the_head_is_quantized_on_request_and_the_embedding_stays(whisper_inputs, tmp_path):
    result = quantized(whisper_inputs, modules=["linear", "head"])
    head = next(layer for layer in result.report.layers if layer.kind == "head")
    assert head.effective is not None
    assert torch.equal(result.model.get_input_embeddings().weight, build_whisper().get_input_embeddings().weight)
    survives_saving(result, whisper_inputs, tmp_path)


@pytest.mark.parametrize("method", ["rtn", "gptq", "gptaq", "awq", "spqr", "smoothquant", "quarot"])
def test_models_without_an_encoder_of_their_own(method, tmp_path):
    speech, inputs = build_wav2vec2()
    before = logits(speech, inputs)
    result = quantize(speech, "weight_only", "per_channel", 4, backend="ptq", method=method, calibration=[inputs])
    assert (logits(result.model, inputs) - before).norm() < 0.5 * before.norm()

    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16, bias=False))

    vectors = torch.randn(50, 64)
    plain = quantize(build(), "weight_only", "per_channel", 4, backend="ptq", method=method, calibration=[vectors])
    plain.save(tmp_path)
    assert torch.equal(load(tmp_path, model=build()).model(vectors), plain.model(vectors))


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "smoothquant"])
@pytest.mark.parametrize("target", [2.8, 4.1, 6.0])
def test_bits_are_allotted_within_a_hundredth_of_the_target(target, method, whisper_inputs, tmp_path):
    result = quantized(whisper_inputs, bits=None, method=method, options={"target_bits": target})
    assert target * 0.99 <= result.report.effective_bits <= target
    layers = [layer for layer in result.report.layers if layer.effective is not None]
    assert len({layer.effective.bits for layer in layers}) > 1
    assert all(layer.requested is None and "allotted" in layer.reason for layer in layers)
    assert "frontier 2.5: " in result.report.notes[0] or "frontier 2.4" in result.report.notes[0]
    survives_saving(result, whisper_inputs, tmp_path)


@pytest.mark.parametrize(
    ("method", "options", "modules"),
    [("gptq", {}, ["linear", "head"]), ("awq", {}, ["linear"]), ("rtn", {"low_rank": 2, "smooth": 0.5}, ["linear"])],
)
@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_a_size_is_met_within_a_hundredth(method, options, modules, rest, whisper_inputs):
    own = {"modules": modules, "rest": rest}
    least, most = (quantized(whisper_inputs, bits=bits, **own).report.size_bytes for bits in (3, 6))
    target = (least + most) / 2e6
    result = quantized(whisper_inputs, bits=None, method=method, options={"target_size_mb": target, **options}, **own)
    assert 0.99 * target <= result.report.size_bytes / 1e6 <= 1.001 * target


def test_more_bits_go_where_rounding_hurts():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(6)))
    model[2].weight.data *= torch.exp(2 * torch.randn(64, 64))
    model[4].weight.data = torch.eye(64)
    result = quantize(
        model, "weight_only", "per_channel", None, backend="ptq", method="rtn", calibration=[torch.randn(99, 64)],
        options={"target_bits": 4.6},
    )  # fmt: skip
    bits = [layer.effective.bits for layer in result.report.layers]
    assert bits[2] == max(bits)
    assert bits[4] == 2


def test_an_encoder_that_the_text_hides_is_spared_by_its_states(whisper_inputs):
    encoder = {}
    for criterion in ("likelihood", "states"):
        model = build_whisper()
        for layer in model.get_decoder().layers:
            layer.encoder_attn.out_proj.weight.data.zero_()
        report = quantize(
            model, "weight_only", "per_channel", None, backend="ptq", method="rtn", calibration=[whisper_inputs] * 2,
            options={"target_bits": 4.1, "allot_by": criterion},
        ).report  # fmt: skip
        encoder[criterion] = {layer.effective.bits for layer in report.layers if ".encoder.layers." in layer.name}
    assert encoder["likelihood"] == {2}
    assert max(encoder["states"]) > 4


def test_states_of_an_encoder_want_one():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with pytest.raises(ModelError, match="allot_by = 'states' wants an encoder and a decoder"):
        quantize(
            model, "weight_only", "per_channel", None, backend="ptq", method="rtn", calibration=[torch.randn(9, 64)],
            options={"target_bits": 4.1, "allot_by": "states"},
        )  # fmt: skip


def test_a_mixed_model_beats_the_uniform_one_of_its_size(whisper_inputs):
    expected = logits(build_whisper(), whisper_inputs)
    errors = {}
    for name, bits, options in (("uniform", 3, {}), ("mixed", None, {"target_bits": 3.16})):
        result = quantized(whisper_inputs, bits=bits, method="rtn", options=options)
        errors[name] = float((logits(result.model, whisper_inputs) - expected).norm())
    assert errors["mixed"] < errors["uniform"]


def test_widths_without_a_rotation_are_refused():
    with pytest.raises(ModelError, match="Hadamard"):
        quantize(nn.Sequential(nn.Linear(100, 8)), "weight_only", "per_channel", 4, backend="ptq", method="quarot")
