"""torchao against the reference and against its own way of doing things, and what it would get wrong in silence."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from backends import (
    Activations,
    ModelError,
    NumberFormat,
    PerChannel,
    PerTensor,
    QuantSpec,
    Supported,
    capability,
    load,
    parse_granularity,
    quantize,
    resolve,
)
from backends.core.base import missing_package
from backends.core.codes import WeightCode
from backends.reference import ReferenceOptions, fake_quantize
from backends.torchao import BACKEND
from tests.backends.cases import require

_MISSING = missing_package(BACKEND)
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=_MISSING.reason if _MISSING else "")

INT = NumberFormat.INT
FULL_RANGE = ReferenceOptions(full_range=True)


@pytest.fixture(scope="module")
def weight():
    values = torch.randn(96, 256, generator=torch.Generator().manual_seed(0)) * 0.05
    values[3] *= 4
    return values


@pytest.fixture(scope="module")
def inputs():
    """Vectors with one channel forty times as large as the others."""
    values = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    values[:, 7] *= 40
    return values


def linear(weight):
    torch.manual_seed(2)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data.copy_(weight)
    return nn.Sequential(layer).requires_grad_(False)


def dequantized(weight, scheme, granularity, bits, **settings):
    require("torchao", scheme, bits)
    calibration = [torch.randn(8, weight.shape[1])]
    result = quantize(linear(weight), scheme, granularity, bits, backend="torchao", calibration=calibration, **settings)
    return BACKEND.dequantize(result.model[0])


def disagreement(actual, expected):
    """Share of the weights that are not equal within float rounding."""
    return float(((actual - expected).abs() > 1e-6 * expected.abs().max()).float().mean())


def error(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("scheme", ["weight_only", "dynamic", "static"])
@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
def test_integers_are_symmetric_over_the_full_range(weight, scheme, bits, granularity):
    if scheme == "weight_only" and (bits, granularity) == (7, "per_tensor"):
        pytest.skip("not supported")
    expected = fake_quantize(weight, WeightCode(bits, INT, parse_granularity(granularity), True), FULL_RANGE)
    assert disagreement(dequantized(weight, scheme, granularity, bits), expected) < 0.001


@pytest.mark.parametrize("granularity", ["per_channel", "per_group:32", "per_group:128"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_all_widths_of_weights(weight, bits, symmetric, granularity):
    """The largest weight of a slice lies between two symmetric codes: one of 32 may fall to either side."""
    if bits == 1 and symmetric:
        pytest.skip("not supported")
    code = WeightCode(bits, INT, parse_granularity(granularity), symmetric)
    expected = fake_quantize(weight, code, FULL_RANGE)
    actual = dequantized(weight, "weight_only", granularity, bits, symmetric=symmetric)
    assert disagreement(actual, expected) < (1 / 32 if symmetric else 0.001)
    assert error(actual, weight) == pytest.approx(error(expected, weight), rel=0.01)


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel", "per_group:32"])
def test_float8_is_a_scaled_cast(weight, granularity):
    expected = fake_quantize(weight, WeightCode(8, NumberFormat.FP8_E4M3, parse_granularity(granularity), True))
    assert disagreement(dequantized(weight, "weight_only", granularity, 8, format="fp8_e4m3"), expected) < 0.001


@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("scheme", "granularity"), [("dynamic", "per_token"), ("dynamic", "per_tensor"), ("static", "per_tensor")]
)
def test_activations_are_rounded_as_the_oracle_rounds_rows(weight, inputs, scheme, granularity, symmetric, bits):
    """But for the largest value of a symmetric slice, which lies between two codes."""
    require("torchao", scheme, bits)
    activations = Activations(bits, granularity=granularity, symmetric=symmetric)
    result = quantize(
        linear(weight), scheme, "per_channel", bits, backend="torchao", activations=activations, calibration=[inputs]
    )
    slices = PerChannel() if granularity == "per_token" else PerTensor()
    rounded = fake_quantize(inputs, WeightCode(bits, INT, slices, symmetric), FULL_RANGE)
    expected = nn.functional.linear(rounded, BACKEND.dequantize(result.model[0]), linear(weight)[0].bias)
    assert error(result.model(inputs), expected) < 0.005
    assert error(result.model(inputs), linear(weight)(inputs)) > 0.01


def test_static_ranges_stay_what_calibration_saw(weight):
    require("torchao", "static")
    calm, loud = torch.randn(8, 256), 100 * torch.randn(8, 256)
    result = quantize(linear(weight), "static", "per_channel", 8, backend="torchao", calibration=[calm])
    assert error(result.model(calm), linear(weight)(calm)) < 0.3
    assert result.model(loud).norm() < 0.1 * linear(weight)(loud).norm()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_smoothquant_is_bit_equal_to_torchao_s_own_and_helps_against_outliers(weight, inputs, scheme, symmetric):
    require("torchao", scheme)
    from torchao.prototype.smoothquant import SmoothQuantConfig
    from torchao.prototype.smoothquant.core import SmoothQuantObservedLinear
    from torchao.quantization import quantize_

    from backends.torchao._modules import configuration

    activations = Activations(8, granularity="per_token" if scheme == "dynamic" else "per_tensor", symmetric=symmetric)
    spec, _ = resolve(QuantSpec(scheme, PerChannel(), 8, activations=activations), "torchao")
    theirs = linear(weight)
    quantize_(theirs, SmoothQuantConfig(configuration(spec), "prepare", 0.5))
    theirs(inputs[:20])
    theirs(inputs[20:])
    quantize_(
        theirs,
        SmoothQuantConfig(configuration(spec), "convert", 0.5),
        lambda m, _: type(m) is SmoothQuantObservedLinear,
    )

    errors = {}
    for method in ("smoothquant", "rtn"):
        ours = quantize(
            linear(weight),
            scheme,
            "per_channel",
            8,
            backend="torchao",
            method=method,
            activations=activations,
            calibration=[inputs[:20, None], inputs[None, 20:]],
        )
        assert ours.report.layers[0].weight_error < 0.02
        outputs = ours.model(inputs)
        errors[method] = error(outputs, linear(weight)(inputs))
        assert torch.equal(outputs, theirs(inputs)) == (method == "smoothquant")
    assert errors["smoothquant"] < errors["rtn"] / 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("scheme", "bits", "settings"),
    [
        ("weight_only", 8, {}),
        ("weight_only", 8, {"format": "fp8_e4m3"}),
        ("weight_only", 4, {}),
        ("dynamic", 8, {"method": "smoothquant"}),
        ("static", 8, {}),
    ],
)
def test_sixteen_bit_models_come_back_as_they_were(weight, dtype, scheme, bits, settings, tmp_path):
    require("torchao", scheme, bits)
    inputs = torch.randn(5, 256).to(dtype)
    result = quantize(
        linear(weight).to(dtype), scheme, "per_channel", bits, backend="torchao", calibration=[inputs], **settings
    )
    result.save(tmp_path)
    restored = load(tmp_path, linear(weight)).model
    assert restored(inputs).dtype == dtype
    assert torch.equal(restored(inputs), result.model(inputs))


def test_narrow_codes_save_nothing(weight):
    report = quantize(linear(weight), "weight_only", "per_group:32", 3, backend="torchao").report
    layer = report.layers[0]
    assert layer.effective == WeightCode(3, INT, parse_granularity("per_group:32"), True)
    assert "int8" in layer.reason
    assert layer.effective_bits == 8 + (32 + 8) / 32
    assert any("nothing gets smaller" in note for note in report.notes)


def refused(model, *arguments, match, **settings):
    weights = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ModelError, match=match):
        quantize(model, *arguments, backend="torchao", **settings)
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))


@pytest.mark.parametrize("bits", [8, 4])
def test_groups_must_divide(bits):
    model = nn.Sequential(nn.Linear(288, 64), nn.Linear(64, 64))
    refused(model, "weight_only", "per_group:64", bits, match=r"0 \(288\)$")


@pytest.mark.parametrize(
    ("granularity", "zeros"), [("per_tensor", (0, 0)), ("per_channel", (3, 0)), ("per_group:32", (3, 32))]
)
def test_float8_scales_must_not_be_zero(granularity, zeros):
    model = nn.Sequential(nn.Linear(64, 8), nn.Linear(64, 8))
    row, column = zeros
    if granularity == "per_tensor":
        model[1].weight.data.zero_()
    else:
        model[1].weight.data[row, column:] = 0
    refused(model, "weight_only", granularity, 8, format="fp8_e4m3", match="found in 1$")


def test_what_torchao_skips_is_refused():
    refused(nn.Sequential(nn.MultiheadAttention(64, 2)), "dynamic", "per_channel", 8, match=r"0\.out_proj")


def test_alpha_is_for_smoothquant_and_between_0_and_1():
    def answer(method, alpha):
        return capability(QuantSpec("dynamic", PerChannel(), 8, method=method), "torchao", {"alpha": alpha})

    assert isinstance(answer("smoothquant", 1.0), Supported)
    assert "for the method smoothquant" in answer("rtn", 0.8).reason
    assert "between 0 and 1" in answer("smoothquant", 1.5).reason


@pytest.mark.parametrize(("scheme", "method"), [("static", "rtn"), ("dynamic", "smoothquant")])
def test_calibration_is_asked_for(scheme, method):
    with pytest.raises(ModelError, match="calibration inputs"):
        quantize(nn.Sequential(nn.Linear(64, 64)), scheme, "per_channel", 7, backend="torchao", method=method)


_SATURATING = """
import sys, torch
from torch import nn
from backends import UnsupportedError, load, quantize
torch.manual_seed(0)
inputs = torch.randn(64, 512)
for scheme in ("dynamic", "static"):
    model = nn.Sequential(nn.Linear(512, 8))
    expected = model(inputs)
    for refused in (lambda: quantize(model, scheme, "per_channel", 8, backend="torchao", calibration=[inputs]),
                    lambda: load(sys.argv[1], model)):
        try:
            refused()
        except UnsupportedError as error:
            assert "use 7 bits" in str(error), error
        else:
            raise SystemExit("saturated sums were accepted")
    narrow = quantize(model, scheme, "per_channel", 7, backend="torchao", calibration=[inputs]).model
    assert (narrow(inputs) - expected).norm() / expected.norm() < 0.05
quantize(nn.Sequential(nn.Linear(512, 8)), "weight_only", "per_channel", 8, backend="torchao")
"""


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


@pytest.mark.skipif(
    not torch.cpu._is_vnni_supported(),
    reason="without VNNI torch multiplies codes by itself, and there is nothing to limit",
)
def test_saturating_sums_of_processors_without_vnni_are_refused(tmp_path):
    require("torchao", "dynamic")
    quantize(nn.Sequential(nn.Linear(512, 8)), "dynamic", "per_channel", 8, backend="torchao").save(tmp_path)
    done = run(_SATURATING, str(tmp_path), ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.returncode == 0, done.stderr + done.stdout


def test_torchao_says_nothing_and_leaves_the_compiler_alone():
    require("torchao", "dynamic")
    code = (
        "import torch; from torch import nn; from backends import quantize\n"
        "quantize(nn.Sequential(nn.Linear(64, 64)), 'dynamic', 'per_channel', 8, backend='torchao')\n"
        "import torch._inductor.config as config; assert not config.coordinate_descent_tuning"
    )
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
