"""Block floats: codes and scales against torchao's, values against the reference, and every method that takes them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from backends import ModelError, PerGroup, quantize
from backends.core.codes import BLOCK_SIZES, FORMAT_BITS, NumberFormat, WeightCode
from backends.ptq import methods
from backends.ptq._block_floats import E2M1, E4M3, float_grid, magnitudes, nearest
from backends.ptq._codes import clipped_grid, grid, grouped, restored
from backends.ptq._linear import QuantizedLinear, Shape, Transform
from backends.ptq._method import Request
from backends.ptq._options import PtqOptions
from backends.ptq._packing import pack
from backends.ptq._quantize import quantized as solved
from backends.ptq._rules import _INTEGERS_ONLY
from backends.ptq.awq import METHOD as AWQ
from backends.ptq.gptq import METHOD as GPTQ
from backends.ptq.rtn import METHOD as RTN
from backends.reference import fake_quantize
from tests.backends.cases import require
from tests.backends.ptq.problems import layer_of, loss, problem
from tests.backends.ptq.test_adapter import logits, quantized, survives_saving
from tests.conftest import build_whisper

FORMATS = list(BLOCK_SIZES)
STORED_BITS = {"nvfp4": 4.5, "mxfp4": 4.25, "mxfp8": 8.25}
METHODS = sorted(set(methods()) - set(_INTEGERS_ONLY))


def code(number_format):
    return WeightCode(FORMAT_BITS[number_format], number_format, PerGroup(BLOCK_SIZES[number_format]), True)


def asked(number_format, **options):
    return Request(code(number_format), None, PtqOptions(**options), None)


def randn(rows=64, columns=256):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def uneven():
    """Rows and blocks of zeros, of both signs, and rows that are much smaller or larger than the others."""
    weight = randn()
    weight[0], weight[1], weight[2, 32:96] = 0, -0.0, 0
    weight[3:8] *= torch.tensor([1e-30, 1e-6, 1e-3, 1e3, 1e6])[:, None]
    return weight


WEIGHTS = {
    "random": randn,
    "float16": lambda: (0.05 * randn()).half().float(),
    "ties": lambda: torch.randint(-4096, 4097, (64, 256), generator=torch.Generator().manual_seed(0)) / 256,
    "uneven": uneven,
    "tiny": lambda: 1e-25 * randn(),
    "huge": lambda: 1e37 * randn(),
}


def of_torchao(weight, number_format):
    """Bytes of elements and of scales, and values. MX scales are rounded down (FLOOR), as the specification says."""
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import MXTensor
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    if number_format is NumberFormat.NVFP4:
        tensor = NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=per_tensor_amax_to_scale(weight.abs().max()))
    else:
        element = torch.float4_e2m1fn_x2 if number_format is NumberFormat.MXFP4 else torch.float8_e4m3fn
        tensor = MXTensor.to_mx(weight, element, 32, scaling_mode=ScaleCalculationMode.FLOOR)
    return tensor.qdata.view(torch.uint8).reshape(-1), tensor.scale.view(torch.uint8), tensor.dequantize()


def equals_torchao(weight, number_format):
    """Elements, block scales and values, bit for bit, and with them the scale of the matrix."""
    elements, scale, values = of_torchao(weight, number_format)
    own = float_grid(weight, number_format)
    codes = own.codes(weight)
    assert torch.equal(own.scale, scale)
    assert torch.equal(pack(codes, FORMAT_BITS[number_format]), elements)
    assert torch.equal(own.values(codes), values)


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_codes_and_scales_are_torchao_s(name, number_format):
    require("torchao")
    equals_torchao(WEIGHTS[name](), number_format)


@pytest.mark.slow
@pytest.mark.parametrize("number_format", FORMATS)
def test_codes_and_scales_of_real_weights_are_torchao_s(number_format, real_whisper):
    from transformers import WhisperForConditionalGeneration

    require("torchao")
    model = WhisperForConditionalGeneration.from_pretrained(real_whisper)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            equals_torchao(module.weight.detach(), number_format)


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", ["random", "float16", "ties"])
def test_values_are_the_reference_s(name, number_format):
    """The reference divides by NVFP4's scale, so that a weight on the border of two codes may get the other one."""
    weight, own = WEIGHTS[name](), code(number_format)
    ours, expected = grid(weight, own).rounded(weight), fake_quantize(weight, own)
    apart = ours != expected
    assert apart.float().mean() < (0.01 if number_format == "nvfp4" else 1e-9)
    assert torch.allclose((ours - weight)[apart].abs(), (expected - weight)[apart].abs(), rtol=1e-5)


@pytest.mark.parametrize("number_format", FORMATS)
def test_zeros_stay_zeros(number_format):
    """torchao's NVFP4 divides by the largest weight, and gets none of them."""
    zeros = torch.zeros(4, 64)
    assert torch.equal(grid(zeros, code(number_format)).rounded(zeros), zeros)


@pytest.mark.parametrize("number_format", ["mxfp4", "mxfp8"])
@pytest.mark.parametrize("size", [1e-38, 1e-40])
def test_elements_are_the_nearest_under_the_smallest_scale(size, number_format):
    """torchao takes 2^-126 when it rounds, and 2^-127, which is E8M0's smallest, when it reads."""
    weight = randn(8, 64) * size
    own = float_grid(weight, NumberFormat(number_format))
    known = magnitudes(E2M1 if number_format == "mxfp4" else E4M3).double() * 2.0**-127
    least = (weight.abs().double()[..., None] - known).abs().amin(-1)
    assert not own.scale.any()
    assert torch.equal((own.rounded(weight).double() - weight).abs(), least)


def test_nvfp4_below_the_smallest_scale_of_a_matrix_is_finite():
    for size in (1e-31, 1e-36, 1e-44):
        weight = randn() * size
        found = float_grid(weight, NumberFormat.NVFP4).rounded(weight)
        assert ((found - weight).abs() <= weight.abs().max() * (0.2 if size == 1e-31 else 1)).all()


def test_elements_are_those_of_the_formats():
    assert magnitudes(E2M1).tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    every = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert torch.equal(magnitudes(E4M3), every)


@pytest.mark.parametrize("element", [E2M1, E4M3], ids=["E2M1", "E4M3"])
def test_ties_go_to_the_even_code(element):
    known = magnitudes(element)
    middles = (known[1:] + known[:-1]) / 2
    codes = nearest(middles, element)
    assert (codes % 2 == 0).all()
    assert ((codes - torch.arange(len(middles)) - 0.5).abs() == 0.5).all()
    assert torch.equal(nearest(-middles, element), codes + element.sign)
    for direction, moved in ((known[1:], 1), (known[:-1], 0)):
        assert torch.equal(nearest(middles.nextafter(direction), element), torch.arange(len(middles)) + moved)


def test_elements_in_e4m3_are_torch_s_cast():
    values = torch.cat([randn(256).flatten() * size for size in (1e-3, 0.1, 10, 100)]).clamp(-448, 448)
    assert torch.equal(nearest(values, E4M3).to(torch.uint8), values.to(torch.float8_e4m3fn).view(torch.uint8))


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_column_has_its_own_part_of_the_grid(number_format):
    weight = uneven()
    own = grid(weight, code(number_format))
    codes = own.codes(weight)
    for index in (0, 15, 16, 31, 32, 200, 255):
        column = own.column(index, 256)
        assert torch.equal(column.codes(weight[:, index : index + 1]), codes[:, index : index + 1])
        assert torch.equal(column.values(codes[:, index : index + 1]), own.values(codes)[:, index : index + 1])


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_grid_and_a_packed_layer_survive_storing(number_format):
    weight, own = uneven(), code(number_format)
    made = clipped_grid(weight, own)
    again = restored(own, made.tensors(), 64)
    assert torch.equal(again.rounded(weight), made.rounded(weight))
    layer = layer_of(weight, randn())
    solution = RTN.solve(layer, asked(number_format))
    module = QuantizedLinear.of(solution, Transform(), Shape(64, 256, own), None)
    assert torch.equal(module.weight, solution.weight)
    stored = sum(8 * tensor.nbytes for tensor in module.buffers())
    assert stored == 64 * 256 * STORED_BITS[number_format] + (32 if number_format == "nvfp4" else 0)


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("weighted", [True, False])
def test_a_searched_scale_is_never_worse_in_any_block(number_format, weighted):
    layer, own = problem(seed=3), code(number_format)
    importance = layer.known.second.diagonal() if weighted else torch.ones(64)
    plain, searched = (
        grouped((found.rounded(layer.weight) - layer.weight) ** 2 * importance, own).sum(2)
        for found in (grid(layer.weight, own), clipped_grid(layer.weight, own, importance))
    )
    assert (searched <= plain).all()
    assert searched.sum() < 0.95 * plain.sum()


def output_error(layer, method, request):
    return loss(layer, solved(layer, replace(request, method=method), None).original_weight())


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("act_order", [True, False])
def test_gptq_and_awq_beat_rounding_to_nearest(act_order, number_format):
    for seed in range(5):
        layer = problem(seed=seed)
        plain = output_error(layer, RTN, asked(number_format))
        assert output_error(layer, GPTQ, asked(number_format, act_order=act_order)) < 0.9 * plain
        assert output_error(layer, AWQ, asked(number_format)) < plain


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_rotation_before_gptq_spreads_outlier_columns(number_format):
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        weight, inputs = (torch.randn(rows, 128, generator=generator) for rows in (48, 800))
        inputs[:, 5::32] *= 30
        layer = layer_of(0.05 * weight, inputs)
        plain, gptq, rotated = (
            output_error(layer, method, asked(number_format, **options))
            for method, options in ((RTN, {}), (GPTQ, {}), (GPTQ, {"rotate": True}))
        )
        assert gptq < 0.95 * plain
        assert rotated < 0.2 * gptq


def of_model(inputs, number_format, method, **settings):
    form = {"granularity": f"per_group:{BLOCK_SIZES[number_format]}", "bits": FORMAT_BITS[number_format]}
    return quantized(inputs, method=method, format=str(number_format), **form, **settings)


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {}) for method in METHODS),
        ("gptq", {"rotate": True}),
        ("gptq", {"smooth": 0.5, "rotate": True, "clip": True}),
    ],
    ids=str,
)
def test_every_method_that_takes_them(method, options, number_format, whisper_inputs, tmp_path):
    result = of_model(whisper_inputs, number_format, method, options=options)
    expected = logits(build_whisper(), whisper_inputs)
    error = (logits(result.model, whisper_inputs) - expected).norm() / expected.norm()
    assert 0 < error < (0.1 if number_format == "mxfp8" else 0.4)
    layers = [layer for layer in result.report.layers if layer.effective is not None]
    assert {(layer.effective, layer.reason) for layer in layers} == {(code(number_format), "")}
    survives_saving(result, whisper_inputs, tmp_path)


@pytest.mark.parametrize("number_format", FORMATS)
def test_stored_bits(number_format, whisper_inputs):
    for layer in of_model(whisper_inputs, number_format, "rtn").report.layers:
        if layer.effective is not None:
            more = 32 if number_format == "nvfp4" else 0
            assert layer.stored_bits == layer.parameters * STORED_BITS[number_format] + more


def test_a_correction_of_low_rank_stands_beside_them(whisper_inputs, tmp_path):
    plain, corrected = (
        of_model(whisper_inputs, NumberFormat.NVFP4, "rtn", options={"low_rank": rank}) for rank in (0, 4)
    )
    errors = [sum(layer.weight_error for layer in result.report.layers) for result in (plain, corrected)]
    assert errors[1] < errors[0]
    survives_saving(corrected, whisper_inputs, tmp_path)


@pytest.mark.parametrize("backend", ["ptq", "reference"])
def test_a_width_that_is_no_multiple_of_the_block_names_the_layer(backend):
    with pytest.raises(ModelError, match=r"group size 16 does not divide the width of 0 \(72\)"):
        quantize(
            nn.Sequential(nn.Linear(72, 8)), "weight_only", "per_group:16", 4, backend=backend, method="rtn",
            format="nvfp4",
        )  # fmt: skip
