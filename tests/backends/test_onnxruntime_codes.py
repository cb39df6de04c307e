"""Codes in ONNX graphs of one layer: what the engine multiplies by and looks up, beside plain torch."""

import logging
import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("onnxruntime", reason='onnxruntime is not installed: pip install ".[onnxruntime]"')
pytest.importorskip("onnxscript", reason='onnxscript is not installed: pip install ".[onnxruntime]"')

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from backends import ModelError, PerChannel, PerGroup, PerTensor, QuantSpec, resolve
from backends.core.codes import NumberFormat, WeightCode
from backends.core.integers import IntegerWeight
from backends.core.selection import Candidate
from backends.onnxruntime._library import rounded, with_integers
from backends.onnxruntime._modules import Graphs
from backends.onnxruntime._weights import bytes_of, layer_report, put_codes, save, tie

ROWS, COLUMNS = 96, 128
TOKENS = torch.tensor([3, 0, 95, 7])


def _graph(weight):
    """A head, and a lookup in its columns."""
    inputs = [("inputs", TensorProto.FLOAT, ["n", COLUMNS]), ("tokens", TensorProto.INT64, ["m"])]
    outputs = [("logits", TensorProto.FLOAT, ["n", ROWS]), ("rows", TensorProto.FLOAT, ["m", COLUMNS])]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["inputs", "proj_out.weight"], ["logits"], "proj_out"),
            helper.make_node("Gather", ["proj_out.weight", "tokens"], ["columns"], axis=1),
            helper.make_node("Transpose", ["columns"], ["rows"], perm=[1, 0]),
        ],
        "head",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(weight.t().contiguous().numpy(), "proj_out.weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _computed(model, inputs):
    engine = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits, rows = engine.run(None, {"inputs": inputs.numpy(), "tokens": TOKENS.numpy()})
    return torch.from_numpy(logits), torch.from_numpy(rows)


def _error(found, expected):
    return float((found - expected).norm() / expected.norm())


def _spec(scheme, granularity, bits, **more):
    return resolve(QuantSpec(scheme, granularity, bits, modules={"linear", "tied"}, **more), "onnxruntime")[0]


def _values(coded):
    """What codes stand for, written out."""
    middle = 2 ** (coded.code.bits - 1) if coded.zero is None else coded.zero.float()[:, :, None]
    groups = coded.codes.float().reshape(ROWS, coded.scale.shape[1], -1)
    return ((groups - middle) * coded.scale.float()[:, :, None]).reshape(ROWS, COLUMNS)


@pytest.fixture
def weight():
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def inputs():
    return torch.randn(5, COLUMNS, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def candidate(weight):
    return Candidate("proj_out", "tied", None, SimpleNamespace(weight=weight), "embedding")


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "size"), [(4, 16), (4, 128), (8, 32)])
@pytest.mark.parametrize("scheme", ["weight_only", "dynamic"])
def test_blocks_are_multiplied_by_and_looked_up(scheme, bits, size, symmetric, weight, inputs, candidate):
    spec = _spec(scheme, PerGroup(size), bits, symmetric=symmetric)
    coded, model = rounded(weight, spec), _graph(weight)
    put_codes(model, "proj_out", coded, 0 if scheme == "weight_only" else 4)
    tie(model)
    logits, rows = _computed(model, inputs)
    values = _values(coded)
    torch.testing.assert_close(rows, values[TOKENS])
    error = _error(logits, inputs @ values.t())
    assert error < 1e-6 if scheme == "weight_only" else 1e-3 < error < 1e-2
    report = layer_report([model], candidate, spec.weight_code)
    assert report.weight_error == pytest.approx(_error(values, weight), rel=1e-5)
    assert report.lookup == "embedding"
    zeros = 0 if symmetric else max(bits, 8 * size // COLUMNS)
    assert report.effective_bits == bits + (32 + zeros) / size


def test_codes_of_others_go_in_bit_for_bit_with_16_bit_scales_and_divided_inputs(weight, inputs):
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 16, (ROWS, COLUMNS), generator=generator, dtype=torch.uint8)
    zero = torch.randint(0, 16, (ROWS, 4), generator=generator, dtype=torch.uint8)
    scale = torch.rand(ROWS, 4, generator=generator).half()
    coded = IntegerWeight(WeightCode(4, NumberFormat.INT, PerGroup(32), False), codes, scale, zero)
    model = _graph(weight)
    put_codes(model, "proj_out", coded, 0)
    tie(model)
    logits, rows = _computed(model, inputs)
    values = _values(coded)
    torch.testing.assert_close(rows, values[TOKENS])
    assert _error(logits, inputs @ values.t()) < 1e-6
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    data = held["proj_out.weight.codes"].reshape(ROWS, -1)
    assert (data & 15).tolist() == codes[:, ::2].tolist()
    assert (data >> 4).tolist() == codes[:, 1::2].tolist()
    assert held["proj_out.weight.scale"].tobytes() == scale.numpy().tobytes()
    assert "proj_out.weight" not in held


def _dynamic(inputs):
    """Rounded to 8 bits with one scale and zero point for all, zero in the range, as `DynamicQuantizeLinear` says."""
    low, high = min(0.0, float(inputs.min())), max(0.0, float(inputs.max()))
    scale = (high - low) / 255
    zero = round(-low / scale)
    return ((inputs / scale).round().add(zero).clamp(0, 255) - zero) * scale


@pytest.mark.parametrize(
    ("granularity", "bits", "dtype"), [(PerChannel(), 8, "uint8"), (PerTensor(), 8, "uint8"), (PerChannel(), 7, "int8")]
)
def test_dynamic_inputs_are_rounded_as_onnx_says(granularity, bits, dtype, weight, inputs, candidate):
    spec = _spec("dynamic", granularity, bits)
    model = with_integers(Graphs(_graph(weight), _graph(weight)), ["proj_out"], spec, None).decoder
    tie(model)
    held = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
    codes, scale, zero = (held[f"proj_out.weight_{part}"] for part in ("quantized", "scale", "zero_point"))
    assert str(codes.dtype) == f"torch.{dtype}"
    assert scale.numel() == (1 if granularity == PerTensor() else ROWS)
    values = ((codes.float() - zero.float()) * scale).t()
    logits, rows = _computed(model, inputs)
    torch.testing.assert_close(rows, values[TOKENS])
    assert _error(logits, _dynamic(inputs) @ values.t()) < 1e-5
    report = layer_report([model], candidate, spec.weight_code)
    assert report.weight_error == pytest.approx(_error(values, weight), rel=1e-5)
    assert 0 < report.weight_error < 0.02


def test_the_root_logger_stays_as_it_is(weight, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", raising=False)
    monkeypatch.delattr(onnxruntime.quantization, "matmul_nbits_quantizer", raising=False)
    level = logging.root.level
    rounded(weight, _spec("weight_only", PerGroup(32), 4))
    assert (logging.root.handlers, logging.root.level) == ([], level)


def test_another_code_than_asked_for_is_an_error(weight, candidate):
    with pytest.raises(ModelError, match="proj_out: it is coded as None, not as int4"):
        layer_report([_graph(weight)], candidate, WeightCode(4, NumberFormat.INT, PerGroup(32), True))


def test_files_lie_beside_each_other_and_hold_what_is_counted(weight, inputs, tmp_path):
    model = _graph(weight)
    expected = _computed(model, inputs)
    save(model, tmp_path, "head")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.bin", "head.onnx"]
    assert (tmp_path / "head.bin").stat().st_size == bytes_of(_graph(weight)) == 4 * ROWS * COLUMNS
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in tmp_path.glob("head.*"):
        path.rename(moved / path.name)
    engine = onnxruntime.InferenceSession(str(moved / "head.onnx"), providers=["CPUExecutionProvider"])
    logits, _ = engine.run(None, {"inputs": inputs.numpy(), "tokens": TOKENS.numpy()})
    assert torch.equal(torch.from_numpy(logits), expected[0])
