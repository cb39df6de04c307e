"""Models of `ptq` as ONNX graphs: the same codes, the same logits, and what is not exported."""

import pytest
import torch

pytest.importorskip("onnxruntime", reason='onnxruntime is not installed: pip install ".[onnxruntime]"')
pytest.importorskip("onnxscript", reason='onnxscript is not installed: pip install ".[onnxruntime]"')

import onnx
from onnx import numpy_helper

from backends import UnsupportedError, load, quantize
from backends.__main__ import main
from tests.backends.onnx_models import generated, logits_of
from tests.conftest import build_prompted_whisper

CODES = {"scheme": "weight_only", "granularity": "per_group:32", "bits": 4, "modules": ["linear", "tied"]}

pytestmark = pytest.mark.usefixtures("exported_once")


@pytest.fixture(scope="module")
def gptq(whisper_inputs):
    return quantize(build_prompted_whisper(), **CODES, backend="ptq", method="gptq", calibration=[whisper_inputs] * 2)


@pytest.fixture(scope="module")
def exported(gptq, tmp_path_factory, exported_once):
    directory = tmp_path_factory.mktemp("exported") / "onnx"
    gptq.export("onnx", directory)
    return directory


def test_exported_codes_are_the_same_bit_for_bit(gptq, exported):
    held = {
        tensor.name: numpy_helper.to_array(tensor)
        for name in ("encoder", "decoder")
        for tensor in onnx.load(exported / "engine" / f"{name}.onnx").graph.initializer
    }
    layers = [layer.name for layer in gptq.report.layers if layer.effective is not None]
    assert "proj_out" in layers
    for name in layers:
        own = dict(gptq.model.get_submodule(name).named_buffers())
        for ours, theirs in (("codes", "codes"), ("grid_scale", "scale"), ("grid_zero", "zero")):
            assert own[ours].numpy().tobytes() == held[f"{name}.weight.{theirs}"].tobytes(), f"{name}.{ours}"


def test_what_is_exported_computes_what_ptq_computes(gptq, exported, whisper_inputs):
    loaded = load(exported)
    assert (loaded.backend, loaded.spec) == ("onnxruntime", gptq.spec)
    with torch.no_grad():
        expected = gptq.model(**whisper_inputs).logits
    found = logits_of(loaded.model, *whisper_inputs.values(), 7)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
    tokens = generated(gptq.model, whisper_inputs["input_features"])
    assert generated(loaded.model, whisper_inputs["input_features"]).tolist() == tokens.tolist()
    files = sum(path.stat().st_size for path in (exported / "engine").glob("*.bin"))
    assert files == pytest.approx(loaded.report.size_bytes, rel=0.01)
    assert loaded.report.size_bytes == pytest.approx(gptq.report.size_bytes, rel=0.02)  # equal norms are kept once
    for ours, theirs in zip(loaded.report.layers, gptq.report.layers, strict=True):
        assert (ours.name, ours.effective, ours.stored_bits) == (theirs.name, theirs.effective, theirs.stored_bits)


def test_a_method_on_the_engine_is_the_method_exported(gptq, whisper_inputs):
    asked = {"backend": "onnxruntime", "method": "gptq", "calibration": [whisper_inputs] * 2}
    found = quantize(build_prompted_whisper(), **CODES, **asked)
    with torch.no_grad():
        expected = gptq.model(**whisper_inputs).logits
    logits = logits_of(found.model, *whisper_inputs.values(), 7)
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-4
    assert found.spec == gptq.spec


@pytest.mark.slow
def test_divided_inputs_are_exported_too(whisper_inputs):
    asked = {"method": "awq", "calibration": [whisper_inputs] * 2}
    ours = quantize(build_prompted_whisper(), **CODES, **asked, backend="ptq")
    with torch.no_grad():
        expected = ours.model(**whisper_inputs).logits
    found = quantize(build_prompted_whisper(), **CODES, **asked, backend="onnxruntime")
    logits = logits_of(found.model, *whisper_inputs.values(), 7)
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bits": 3}, r"has no codes of 3 bits: use 4 or 8"),
        ({"granularity": "per_channel"}, "groups of 16, 32, 64, 128, 256: use per_group"),
        ({"scheme": "dynamic"}, "only weights are exported, and the scheme is dynamic"),
        ({"options": {"rotate": True}}, "it has rotate beside its codes"),
        ({"options": {"low_rank": 2}}, "it has low_rank beside its codes"),
        ({"rest": "fp16"}, "rest is fp16: leave rest out"),
        ({"format": "mxfp4"}, "multiplies by integers alone"),
        ({"backend": "quanto"}, "the backend quanto does not export onnx"),
    ],
)
def test_what_is_more_than_codes_is_not_exported(changes, reason, tmp_path):
    asked = {**CODES, "backend": "ptq", "modules": ["linear"], **changes}
    if asked["backend"] == "ptq":
        asked["method"] = "rtn"
    with pytest.raises(UnsupportedError, match=reason):
        quantize(build_prompted_whisper(), **asked).export("onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_in_16_bits_is_not_exported(tmp_path):
    ours = quantize(build_prompted_whisper().half(), **CODES, backend="ptq", method="rtn")
    with pytest.raises(UnsupportedError, match="the model in float16: load it so"):
        ours.export("onnx", tmp_path / "out")


def test_another_format_is_refused_by_name(gptq, tmp_path):
    with pytest.raises(UnsupportedError, match="the backend ptq does not export onx, only onnx"):
        gptq.export("onx", tmp_path / "out")


def test_the_command_exports_what_was_saved(gptq, exported, tmp_path, capsys):
    gptq.save(tmp_path / "saved")
    assert main(["export", str(tmp_path / "saved"), "onnx", str(tmp_path / "onnx")]) == 0
    size = sum(path.stat().st_size for path in (tmp_path / "onnx").rglob("*") if path.is_file())
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'onnx'}: {size / 1e6:.2f} MB\n")
    for name in ("encoder.bin", "decoder.bin"):
        assert (tmp_path / "onnx" / "engine" / name).read_bytes() == (exported / "engine" / name).read_bytes()
    assert main(["export", str(tmp_path / "onnx"), "onnx", str(tmp_path / "again")]) == 2
    assert "the backend onnxruntime does not export onnx" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
