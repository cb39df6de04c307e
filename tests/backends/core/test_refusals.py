"""What is refused with a model in hand, before a weight is touched."""

import copy

import pytest
import torch
from torch import nn

from backends import ModelError, UnsupportedError, quantize
from backends.testing import small_inputs, small_whisper


def untouched(model, *arguments, error=ModelError, match, **settings):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=match):
        quantize(model, *arguments, **settings)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.fixture
def moonshine_width():
    """Moonshine's 288 inputs, which 64 and 128 do not divide."""
    return nn.Sequential(nn.Linear(288, 64), nn.Linear(64, 64))


def test_bitsandbytes_blocks_that_straddle_rows(moonshine_width):
    untouched(
        moonshine_width, "weight_only", "per_group:64", 4, backend="bitsandbytes", format="nf4", match=r"0 \(288\)"
    )


def test_quanto_groups_are_not_shrunk(moonshine_width):
    untouched(moonshine_width, "weight_only", "per_group:128", 4, backend="quanto", match=r"0 \(288\), 1 \(64\)")


def test_hqq_groups_straddle_only_when_asked(moonshine_width):
    untouched(moonshine_width, "weight_only", "per_group:64", 4, backend="hqq", match="straddle = true")
    result = quantize(moonshine_width, "weight_only", "per_group:64", 4, backend="hqq", options={"straddle": True})
    assert result.report.effective_bits == 5.0


def test_hqq_codes_must_fill_bytes():
    untouched(
        nn.Sequential(nn.Linear(32, 3)), "weight_only", "per_group:32", 1, backend="hqq", match="whole bytes in 0"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(value):
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 8))
    model[1].weight.data[5, 3] = value
    with pytest.raises(ModelError, match=r"^1\.weight holds values .* the checkpoint is damaged$"):
        quantize(model, "weight_only", "per_channel", 8, backend="reference")


@pytest.mark.parametrize("library", ["quanto", "torchao", "hqq"])
def test_a_model_of_which_a_library_has_quantized_a_part_is_checked_too(library):
    def rest(model):
        return quantize(model, "weight_only", "per_channel", 8, backend="reference", parts=["decoder"]).model

    model = quantize(small_whisper(), "weight_only", "per_channel", 8, backend=library, parts=["encoder"]).model
    weight = model.get_decoder().layers[0].fc1.weight.data
    value, weight[0, 0] = weight[0, 0].clone(), float("nan")
    with pytest.raises(ModelError, match=r"decoder\.layers\.0\.fc1\.weight holds"):
        rest(model)
    weight[0, 0] = value
    assert rest(model)(**small_inputs()).logits.isfinite().all()


def test_float8_rows_must_not_be_zero():
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 8))
    model[1].weight.data[5] = 0
    untouched(
        model, "weight_only", "per_channel", 8, backend="quanto", format="fp8_e4m3", match="all zero, found in 1$"
    )


def test_static_needs_calibration():
    model = nn.Sequential(nn.Linear(64, 8))
    with pytest.raises(ModelError, match="calibration"):
        quantize(model, "static", "per_channel", 8, backend="torch_static", options={"reduce_range": True})


def test_nothing_to_quantize():
    untouched(
        nn.Sequential(nn.Linear(64, 8)),
        "weight_only",
        "per_channel",
        8,
        backend="hqq",
        modules=["head"],
        match="nothing",
    )


def test_unsupported_is_raised_at_the_door():
    untouched(
        nn.Sequential(nn.Linear(64, 8)),
        "dynamic",
        "per_channel",
        8,
        backend="quanto",
        error=UnsupportedError,
        match="static",
    )


def test_calibration_must_reach_every_module():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, inputs):
            return self.used(inputs)

    for backend, options in (("torch_static", {"reduce_range": True}), ("quanto", {}), ("reference", {})):
        settings = {"backend": backend, "options": options, "calibration": [torch.randn(4, 64)]}
        with pytest.raises(ModelError, match="did not reach unused"):
            quantize(Half(), "static", "per_channel", 8, **settings)


def test_a_module_in_two_places():
    layer = nn.Linear(64, 64)
    untouched(nn.Sequential(layer, layer), "weight_only", "per_channel", 8, backend="quanto", match="0 = 1")


@pytest.mark.parametrize(("backend", "scheme"), [("quanto", "weight_only"), ("torch_dynamic", "dynamic")])
def test_sixteen_bit_weights_where_a_library_cannot_take_them(backend, scheme):
    untouched(nn.Sequential(nn.Linear(64, 64)).bfloat16(), scheme, "per_channel", 8, backend=backend, match="float32")
