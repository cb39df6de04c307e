"""Adapters against the reference: equal where the mathematics is the same, bounded where a library adds to it."""

import pytest
import torch
from torch import nn

from backends import Activations, NumberFormat, PerChannel, PerGroup, PerTensor, parse_granularity, quantize
from backends.core.codes import WeightCode
from backends.core.registry import get
from backends.reference import ReferenceOptions, fake_quantize
from tests.backends.cases import require

INT = NumberFormat.INT
FULL = {"full_range": True}


@pytest.fixture(scope="module")
def weight():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(96, 256, generator=generator) * 0.05
    values[3] *= 4
    return values


def dequantized(weight, backend, scheme, granularity, bits, **settings):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data.copy_(weight)
    calibration = [torch.randn(8, weight.shape[1])]
    result = quantize(
        nn.Sequential(layer), scheme, granularity, bits, backend=backend, calibration=calibration, **settings
    )
    return get(backend).dequantize(result.model[0]).float()


def agrees(actual, expected):
    """Equal within float rounding, but for the few weights that lie on the border of two codes."""
    apart = (actual - expected).abs() > 1e-6 * expected.abs().max()
    return apart.float().mean() < 0.001


def error(actual, weight):
    return float((actual - weight).norm() / weight.norm())


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel", "per_group:64"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_the_reference_has_no_more_levels_than_its_bits_and_is_within_a_step(weight, granularity, bits):
    rounded = dequantized(weight, "reference", "weight_only", granularity, bits, symmetric=False)
    size = {"per_tensor": weight.numel(), "per_channel": 256, "per_group:64": 64}[granularity]
    for own, codes in zip(weight.reshape(-1, size), rounded.reshape(-1, size), strict=True):
        assert 2 <= len(codes.unique()) <= 2**bits
        step = (own.max() - own.min()) / (2**bits - 1)
        assert (own - codes).abs().max() <= 1.01 * step


@pytest.mark.parametrize("backend", ["torch_dynamic", "torch_static"])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()])
def test_torch_int8_is_symmetric_over_the_full_range(weight, backend, granularity):
    scheme = "dynamic" if backend == "torch_dynamic" else "static"
    expected = fake_quantize(weight, WeightCode(8, INT, granularity, True), ReferenceOptions(full_range=True))
    settings = {"options": {"reduce_range": True}} if scheme == "static" else {}
    assert agrees(dequantized(weight, backend, scheme, granularity, 8, **settings), expected)


def test_torch_fp16_is_a_cast(weight):
    assert torch.equal(
        dequantized(weight, "torch_dynamic", "weight_only", "per_tensor", 16, format="fp16"), weight.half().float()
    )


def test_quanto_int8_is_absmax(weight):
    expected = fake_quantize(weight, WeightCode(8, INT, PerChannel(), True))
    assert agrees(dequantized(weight, "quanto", "weight_only", "per_channel", 8), expected)


def test_quanto_float8_is_a_scaled_cast(weight):
    expected = fake_quantize(weight, WeightCode(8, NumberFormat.FP8_E4M3, PerChannel(), True))
    assert agrees(dequantized(weight, "quanto", "weight_only", "per_channel", 8, format="fp8_e4m3"), expected)


@pytest.mark.parametrize("granularity", ["per_channel", "per_group:32", "per_group:128"])
@pytest.mark.parametrize("bits", [4, 2])
def test_quanto_packed_bits_are_affine_with_a_float_shift(weight, granularity, bits):
    code = WeightCode(bits, INT, parse_granularity(granularity), False)
    expected = fake_quantize(weight, code, ReferenceOptions(float_zero_point=True))
    plain = dequantized(weight, "quanto", "weight_only", granularity, bits)
    assert agrees(plain, expected)
    solved = dequantized(weight, "quanto", "weight_only", granularity, bits, method="hqq")
    assert error(solved, weight) < error(plain, weight)


@pytest.mark.parametrize("granularity", ["per_channel", "per_group:64"])
@pytest.mark.parametrize("bits", [8, 6, 5, 4, 3, 2, 1])
def test_hqq_without_its_solver_is_affine_and_with_it_better(weight, granularity, bits):
    code = WeightCode(bits, INT, parse_granularity(granularity), False)
    expected = fake_quantize(weight, code, ReferenceOptions(float_zero_point=bits != 4))
    plain = dequantized(weight, "hqq", "weight_only", granularity, bits, method="rtn")
    assert agrees(plain, expected)
    assert error(dequantized(weight, "hqq", "weight_only", granularity, bits), weight) < error(plain, weight)


def test_bitsandbytes_int8_rounds_the_weight_to_fp16_first(weight):
    expected = fake_quantize(weight.half().float(), WeightCode(8, INT, PerChannel(), True))
    assert agrees(dequantized(weight, "bitsandbytes", "weight_only", "per_channel", 8), expected)


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("number_format", ["nf4", "fp4"])
def test_bitsandbytes_tables(weight, number_format, block):
    expected = fake_quantize(weight, WeightCode(4, NumberFormat(number_format), PerGroup(block), True))
    plain = dequantized(weight, "bitsandbytes", "weight_only", f"per_group:{block}", 4, format=number_format)
    assert agrees(plain, expected)
    double = dequantized(
        weight,
        "bitsandbytes",
        "weight_only",
        f"per_group:{block}",
        4,
        format=number_format,
        options={"double_quant": True},
    )
    assert error(double, weight) == pytest.approx(error(plain, weight), rel=0.01)
    assert not torch.equal(double, plain)


def test_finer_granularity_is_never_worse_for_the_oracle(weight):
    for bits in (8, 4, 3, 2):
        errors = [
            error(
                fake_quantize(
                    weight, WeightCode(bits, INT, granularity, False), ReferenceOptions(float_zero_point=True)
                ),
                weight,
            )
            for granularity in (PerTensor(), PerChannel(), PerGroup(64))
        ]
        assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("granularity", ["per_tensor", "per_token"])
def test_the_oracle_rounds_activations(granularity):
    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    model[0].weight.data.copy_(torch.eye(64))
    activations = Activations(4, granularity=granularity)
    result = quantize(model, "dynamic", "per_channel", 8, backend="reference", activations=activations)
    inputs = torch.randn(5, 64)
    outputs = result.model(inputs)
    levels = [len(row.unique()) for row in outputs]
    assert max(levels) <= 16
    assert error(outputs, inputs) < 0.15


def layer_and_inputs():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 96)), torch.randn(40, 64)


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("outputs", [True, False])
@pytest.mark.parametrize("seven", [True, False])
def test_torch_static_computes_what_the_oracle_does(granularity, outputs, seven):
    if not seven:
        require("torch_static", "static")
    made, inputs = [], Activations(7 if seven else 8, symmetric=False)
    for backend, options in (("torch_static", {"observer": "minmax", "reduce_range": seven}), ("reference", FULL)):
        model, shown = layer_and_inputs()
        settings = {"backend": backend, "options": options, "calibration": [shown], "outputs": outputs}
        settings["activations"] = inputs
        made.append(quantize(model, "static", granularity, 8, **settings).model[0])
    ours, oracle = made
    oracle.module.weight.copy_(get("torch_static").dequantize(ours))  # a row's largest lies on a border of two codes
    found, expected = ours(shown).detach(), oracle(shown).detach()
    apart = (found - expected).abs()
    if outputs:
        step = ours.module.scale
        assert apart.max() <= 1.1 * step  # the oracle's range is that of rounded weights, torch's of float ones
        assert apart.mean() < 0.2 * step
        assert torch.allclose(found, (found / step).round() * step, atol=1e-4 * step)
    else:
        assert apart.max() <= 2 * ours.quant.scale * oracle.weight.abs().max()
        assert (apart > 1e-5 * expected.abs().max()).float().mean() < 0.01


def test_the_oracle_rounds_outputs_with_one_scale():
    model, shown = layer_and_inputs()
    settings = {"backend": "reference", "calibration": [shown], "activations": Activations(4, symmetric=False)}
    rounded = quantize(model, "static", "per_channel", 8, outputs=True, **settings).model
    plain = quantize(layer_and_inputs()[0], "static", "per_channel", 8, **settings).model
    assert len(rounded[0](shown).unique()) <= 16 < len(plain[0](shown).unique())


@pytest.mark.parametrize("code", [Activations(8), Activations(8, "fp8_e4m3")])
def test_quanto_rounds_inputs_alone(code):
    model, shown = layer_and_inputs()
    given = quantize(model, "static", "per_channel", 8, backend="quanto", calibration=[shown], activations=code).model
    assert not given[0]._forward_hooks
    assert len(given[0]._forward_pre_hooks) == 1
    assert type(given[0](shown)) is torch.Tensor
