"""OpenVINO's encoder beside torch's on the weights that the engine holds, and what the adapter refuses."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("openvino", reason='openvino is not installed: pip install ".[openvino]"')
pytest.importorskip("nncf", reason='nncf is not installed: pip install ".[openvino]"')

from backends import (
    Activations,
    CalibrationInput,
    ModelError,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    UnsupportedError,
    quantize,
    quantize_spec,
)
from backends.openvino._graph import _by_module, _computed
from tests.conftest import build_prompted_whisper
from tests.harness.checkpoints import save_moonshine

ENCODER = {"backend": "openvino", "parts": ["encoder"]}
WEIGHTS = [
    {"granularity": "per_channel", "bits": 8, "modules": ["linear", "conv"]},
    {"granularity": "per_group:64", "bits": 4},
]


def _error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("asked", WEIGHTS, ids=["int8", "int4"])
@torch.no_grad()
def test_weights_are_rounded_and_activations_are_not(asked, whisper_inputs):
    """torch's encoder with the weights that the engine computes from its codes gives what the engine gives."""
    features = whisper_inputs["input_features"]
    graph = quantize(build_prompted_whisper(), "weight_only", **asked, **ENCODER).model.get_encoder().graph
    expected = build_prompted_whisper().get_encoder()
    full = expected(features).last_hidden_state
    for name, weight in _computed(graph, list(_by_module(graph))).items():
        module = expected.get_submodule(name)
        module.weight.data = weight.reshape(module.weight.shape)
    found = quantize(build_prompted_whisper(), "weight_only", **asked, **ENCODER).model.get_encoder()(features)
    assert _error(found.last_hidden_state, expected(features).last_hidden_state) < 1e-5
    assert _error(found.last_hidden_state, full) > 1e-4


@torch.no_grad()
def test_static_inputs_of_every_chosen_layer_pass_a_range(whisper_inputs):
    features = whisper_inputs["input_features"]
    full = build_prompted_whisper().get_encoder()(features).last_hidden_state
    batches = [CalibrationInput(whisper_inputs)]
    quantized = quantize(build_prompted_whisper(), "static", "per_channel", 8, calibration=batches, **ENCODER)
    encoder = quantized.model.get_encoder()
    assert 1e-4 < _error(encoder(features).last_hidden_state, full) < 0.05
    for name, operation in _by_module(encoder.graph).items():
        inputs = operation.input(0).get_source_output().get_node()
        while inputs.get_type_name() in ("Reshape", "Transpose"):
            inputs = inputs.input(0).get_source_output().get_node()
        assert (inputs.get_type_name() == "FakeQuantize") == (not name.startswith("conv"))


@torch.no_grad()
def test_a_row_does_not_depend_on_what_is_beside_it(whisper_inputs):
    features = whisper_inputs["input_features"]
    encoder = quantize(build_prompted_whisper(), "weight_only", "per_channel", 8, **ENCODER).model.get_encoder()
    alone = torch.cat([encoder(features[i : i + 1]).last_hidden_state for i in range(2)])
    assert _error(encoder(features).last_hidden_state, alone) < 1e-5


@torch.no_grad()
def test_the_whole_model_gives_logits_and_generates(whisper_inputs):
    full = build_prompted_whisper()(**whisper_inputs).logits
    spec = QuantSpec("none", PerTensor(), 32, "fp32")
    model = quantize_spec(build_prompted_whisper(), spec, "openvino").model
    assert _error(model(**whisper_inputs).logits, full) < 1e-5
    with pytest.raises(UnsupportedError, match="states of its layers"):
        model(**whisper_inputs, output_hidden_states=True)


def test_the_report_tells_encoder_from_decoder():
    report = quantize(build_prompted_whisper(), "weight_only", "per_group:32", 4, **ENCODER).report
    codes = {(layer.name.startswith("model.encoder"), layer.kind): str(layer.effective) for layer in report.layers}
    assert codes[True, "linear"] == "int4 per_group:32 asymmetric"
    assert codes[True, "conv"] == codes[False, "linear"] == codes[False, "head"] == "None"
    (fc1,) = [layer for layer in report.layers if layer.name == "model.encoder.layers.0.fc1"]
    assert fc1.effective_bits == 4 + (16 + 4) / 32  # codes, a scale in fp16 and a zero point of 4 bits a group


_TELEMETRY = """
from openvino_telemetry import Telemetry
from backends.openvino._modules import quiet
with quiet() as nncf:
    from nncf.telemetry.wrapper import telemetry
assert telemetry._impl is Telemetry() and not Telemetry().consent
"""


def test_nothing_is_told_to_the_makers_of_the_libraries(tmp_path):
    """nncf tells nothing under pytest anyway: so elsewhere, with a home directory of its own."""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", _TELEMETRY], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"parts": frozenset({"encoder", "decoder"})}, "cannot convert the decoder"),
        ({"modules": frozenset({"linear", "head"})}, "neither head nor embedding"),
        ({"scheme": "dynamic"}, "within a token"),
        ({"granularity": PerGroup(64)}, "8-bit weights are per_channel"),
        ({"bits": 4, "modules": frozenset({"linear", "conv"})}, "leave conv out"),
        ({"bits": 3}, "8 or 4 bits"),
        ({"scheme": "static", "bits": 4}, "8 bits, per_channel"),
        ({"scheme": "static", "activations": Activations(8, granularity="per_token")}, "per_tensor"),
        ({"scheme": "none", "bits": 16, "format": "bf16", "granularity": PerTensor()}, "fp32 here"),
        ({"format": "fp8_e4m3"}, "integer codes"),
    ],
)
def test_what_it_cannot_do_is_a_reason(change, reason):
    asked = {"scheme": "weight_only", "granularity": PerChannel(), "bits": 8, "parts": frozenset({"encoder"})}
    with pytest.raises(UnsupportedError, match=reason):
        quantize_spec(build_prompted_whisper(), QuantSpec(**{**asked, **change}), "openvino")


def _moonshine(tmp_path):
    from transformers import AutoModelForSpeechSeq2Seq

    return AutoModelForSpeechSeq2Seq.from_pretrained(save_moonshine(tmp_path))


def test_models_that_it_cannot_convert_are_refused(tmp_path):
    asked = {"scheme": "weight_only", "granularity": "per_group:96", "bits": 4, **ENCODER}
    with pytest.raises(ModelError, match="Moonshine's encoder"):
        quantize(_moonshine(tmp_path), **asked)
    with pytest.raises(ModelError, match="not of Linear"):
        quantize(torch.nn.Linear(4, 4), **asked)
    with pytest.raises(ModelError, match="group size 96 does not divide the width of model"):
        quantize(build_prompted_whisper(), **asked)
    with pytest.raises(ModelError, match="load the model so"):
        quantize(build_prompted_whisper().half(), **{**asked, "granularity": "per_channel"})
    with pytest.raises(ModelError, match="needs calibration inputs"):
        quantize(build_prompted_whisper(), "static", "per_channel", 8, **ENCODER)
