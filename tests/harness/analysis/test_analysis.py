"""What was planted is named first: an outlier channel, a layer with fewer bits than the others."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis

from backends import quantize
from harness.analysis._answers import Answers
from harness.analysis._blocks import blocks_of
from harness.analysis._moments import Moments
from harness.analysis.analysis import analyse
from harness.embedded import MODEL_DIRECTORY
from harness.embedded.outliers import plant
from harness.experiment.tables import Calibration, Data, Decoding
from harness.recognition.calibrating import calibration_inputs
from harness.recognition.loading import load_recognizer
from harness.report.outputs import rounded_outputs

SPEECH = Calibration(data=Data(dataset="embedded", split="clean"), utterances=8)


@pytest.fixture(scope="module")
def recognizer():
    return load_recognizer(MODEL_DIRECTORY, "float32", "cpu")


@pytest.fixture(scope="module")
def batches(recognizer):
    return calibration_inputs(recognizer, SPEECH, Decoding())


def with_one_at_two_bits(model, name):
    """The model at 8 bits, but for one layer at 2; and the report of the former."""
    wide = quantize(copy.deepcopy(model), "weight_only", "per_channel", 8, backend="ptq", method="rtn")
    narrow = quantize(copy.deepcopy(model), "weight_only", "per_channel", 2, backend="ptq", method="rtn")
    wide.model.set_submodule(name, narrow.model.get_submodule(name))
    return wide


def test_moments_are_scipys():
    values = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0)) ** 3 + 0.5
    moments = Moments(8)
    for part in values.reshape(10, 50, 10, 8):
        moments.add(part)
    assert moments.kurtosis == pytest.approx(kurtosis(values.numpy().ravel(), fisher=False), rel=1e-4)
    assert moments.largest == float(values.abs().max())
    assert moments.range_ratio == pytest.approx(float((values.max() - values.min()) / values.std()), rel=1e-4)
    positive = Moments(8)
    positive.add(values.abs() + 1)
    assert positive.range_ratio == pytest.approx(float(values.abs().max() + 1) / float(values.abs().std()), rel=1e-4)
    assert np.isnan(Moments(3).kurtosis)


def test_channels_that_stand_out():
    values = torch.ones(4, 9)
    values[:, 2], values[0, 7] = -20, 8
    moments = Moments(9)
    moments.add(values)
    assert moments.outliers == [2, 7]
    assert moments.peak_ratio == 20


@pytest.mark.parametrize(
    "name", ["model.encoder.layers.2.fc2", "model.decoder.layers.1.encoder_attn.v_proj", "model.decoder.layers.0.fc1"]
)
def test_the_layer_with_two_bits_among_eight_is_first(name, recognizer, batches):
    planted = with_one_at_two_bits(recognizer.model, name)
    before = {key: value.clone() for key, value in recognizer.model.state_dict().items()}
    found = analyse(recognizer.model, planted.model, planted.report, batches)
    first, second = sorted(found["layers"], key=lambda row: -row["divergence"])[:2]
    assert first["name"] == name
    assert first["divergence"] > 10 * second["divergence"]
    assert max(found["layers"], key=lambda row: row["output_error"])["name"] == name
    assert all(torch.equal(value, before[key]) for key, value in recognizer.model.state_dict().items())


def test_an_outlier_channel_is_found_where_it_was_planted(batches):
    full = load_recognizer(MODEL_DIRECTORY, "float32", "cpu").model
    layer = full.get_submodule("model.encoder.layers.1.final_layer_norm")
    with torch.no_grad():
        layer.weight[77] *= 40
        layer.bias[77] *= 40
        full.get_submodule("model.encoder.layers.1.fc1").weight[:, 77] /= 40
    quantized = quantize(copy.deepcopy(full), "weight_only", "per_channel", 4, backend="ptq", method="rtn")
    found = analyse(full, quantized.model, quantized.report, batches)
    first, second = sorted(found["layers"], key=lambda row: -row["input_peak_ratio"])[:2]
    assert first["name"] == "model.encoder.layers.1.fc1"
    assert first["outlier_channels"] == [77]
    assert first["input_kurtosis"] > 3 * second["input_kurtosis"]


def test_an_output_that_one_scale_cannot_hold_is_named(batches):
    """A channel that GELU silences anyway: full precision does not notice it, and its layer's rounding does."""
    name = "model.encoder.layers.1.fc1"
    full = load_recognizer(MODEL_DIRECTORY, "float32", "cpu").model
    full.get_submodule(name).bias.data[9] = -1000
    found = {}
    for outputs in (True, False):
        settings = {"backend": "torch_static", "calibration": batches, "outputs": outputs}
        quantized = quantize(
            copy.deepcopy(full),
            "static",
            "per_channel",
            8,
            options={"observer": "minmax", "reduce_range": True},
            **settings,
        )
        rows = analyse(full, quantized.model, quantized.report, batches)["layers"]
        worst = max(rows, key=lambda row: row["divergence"])
        found[outputs] = next(row for row in rows if row["name"] == name)
        assert (worst["name"] == name) is outputs
        assert max(rows, key=lambda row: row["output_range_ratio"])["name"] == name
    assert found[True]["output_peak_ratio"] > 100
    assert found[True]["output_error"] > 5 * found[False]["output_error"]
    told = rounded_outputs({"output_bits": 8, "layers": [found[True]]})
    assert told.startswith(f"The output of {name} spans {found[True]['output_range_ratio']:.0f} standard deviations")
    assert rounded_outputs({"output_bits": None, "layers": [found[False]]}) == ""


def test_rotation_takes_the_peak_away(batches):
    full = load_recognizer(MODEL_DIRECTORY, "float32", "cpu").model
    planted = plant(full, 20)
    rotated = quantize(copy.deepcopy(full), "weight_only", "per_channel", 4, backend="ptq", method="quarot")
    found = {row["name"]: row for row in analyse(full, rotated.model, rotated.report, batches)["layers"]}
    row = found["model.encoder.layers.0.fc1"]
    assert set(row["outlier_channels"]) == set(planted["encoder.layers.0.final_layer_norm"])
    assert row["input_peak_ratio"] > 15 > 4 > row["transformed_input_peak_ratio"]
    assert row["input_kurtosis"] > 50 > 10 > row["transformed_input_kurtosis"]


def test_parts_and_blocks(recognizer, batches):
    encoder = quantize(
        copy.deepcopy(recognizer.model), "weight_only", "per_channel", 3, backend="ptq", method="rtn", parts=["encoder"]
    )
    found = analyse(recognizer.model, encoder.model, encoder.report, batches)
    parts = {part["name"]: part for part in found["parts"]}
    assert list(parts) == ["encoder", "all"]
    assert parts["encoder"] == {**parts["all"], "name": "encoder"}
    assert 0 < parts["all"]["agreement"] < 1
    blocks = [block["name"] for block in found["blocks"]]
    assert (
        blocks
        == blocks_of(recognizer.model)
        == [f"model.encoder.layers.{i}" for i in range(4)] + [f"model.decoder.layers.{i}" for i in range(2)]
    )
    cosines = [block["cosine"] for block in found["blocks"]]
    assert all(0.5 < cosine < 0.9999 for cosine in cosines)
    assert cosines[0] > cosines[3]


def test_a_tie_is_looked_up_and_multiplied_quantized(recognizer, batches):
    settings = {"backend": "ptq", "method": "rtn", "modules": ["tied"]}
    tied = quantize(copy.deepcopy(recognizer.model), "weight_only", "per_channel", 3, **settings)
    found = analyse(recognizer.model, tied.model, tied.report, batches[:1])
    whole = Answers(recognizer.model, batches[:1]).loss(tied.model)
    assert [part["name"] for part in found["parts"]] == ["tied", "all"]
    assert found["layers"][0]["divergence"] == found["parts"][0]["divergence"] == whole.divergence > 0
    assert not hasattr(recognizer.model.get_input_embeddings(), "_head")


def test_full_precision_does_not_diverge_from_itself(recognizer, batches):
    loss = Answers(recognizer.model, batches).loss(recognizer.model)
    assert (loss.divergence, loss.nll, loss.agreement) == (0, 0, 1)


@pytest.mark.slow
def test_every_library_can_be_analysed(recognizer, batches):
    for backend, scheme, granularity, bits in (
        ("quanto", "weight_only", "per_channel", 8),
        ("torch_dynamic", "dynamic", "per_tensor", 8),
        ("hqq", "weight_only", "per_group:64", 4),
    ):
        quantized = quantize(
            copy.deepcopy(recognizer.model), scheme, granularity, bits, backend=backend, modules=["linear", "head"]
        )
        found = analyse(recognizer.model, quantized.model, quantized.report, batches[:1])
        assert {row["kind"] for row in found["layers"]} == {"linear", "head"}
        assert [part["name"] for part in found["parts"]] == ["encoder", "decoder", "decoder head", "all"]
        assert all(0 < row["output_error"] < 0.5 for row in found["layers"])
