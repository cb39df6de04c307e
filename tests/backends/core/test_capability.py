import subprocess
import sys

import pytest

from backends import (
    Activations,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    Scheme,
    SpecError,
    Supported,
    Unsupported,
    available,
    capability,
    resolve,
)
from backends.core import base as base
from backends.core.spec import BLOCK_SIZES, FORMAT_BITS
from tests.backends.cases import ENGINES, SUPPORTED, require

_TOKENS = Activations(granularity="per_token")
_CONV = frozenset({"conv"})
_ENCODER = frozenset({"encoder"})


@pytest.mark.parametrize("backend", available())
def test_every_backend_supports_something(backend):
    require(backend)
    assert any(case.backend == backend for case in [*SUPPORTED, *ENGINES])


@pytest.mark.parametrize("case", [*SUPPORTED, *ENGINES], ids=str)
def test_resolving_twice_changes_nothing(case):
    spec, options = resolve(case.spec, case.backend, dict(case.options))
    assert resolve(spec, case.backend, vars(options))[0] == spec
    assert None not in (spec.method, spec.symmetric) or case.spec.scheme is Scheme.NONE


@pytest.mark.parametrize(
    ("backend", "spec", "reason"),
    [
        ("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 7), "8, 6, 5, 4, 3, 2 and 1 bits"),
        ("hqq", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8), "weights only"),
        ("quanto", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8), "static only"),
        ("quanto", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 8), "per channel"),
        ("torch_dynamic", QuantSpec(Scheme.DYNAMIC, PerGroup(64), 8), "no groups"),
        ("torch_dynamic", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, modules=frozenset({"conv"})), "conv"),
        ("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 4), "8-bit"),
        ("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 8, modules=_CONV, outputs=False), "leave conv out"),
        ("bitsandbytes", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 4, "nf4"), "per_group"),
        ("bitsandbytes", QuantSpec(Scheme.STATIC, PerChannel(), 8), "weight_only and dynamic"),
        ("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerTensor(), 4), "symmetric int8"),
        ("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 1, symmetric=True), "all zero"),
        ("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, "nf4"), "fp8_e4m3"),
        ("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, method="smoothquant"), "dynamic or static"),
        ("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, modules=frozenset({"conv"})), "Conv1d"),
        ("torchao", QuantSpec(Scheme.DYNAMIC, PerGroup(64), 8), "no groups"),
        ("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, "fp8_e4m3"), "need a GPU"),
        ("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 4), "8 bits, or 7"),
        ("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, method="awq"), "rtn and smoothquant"),
        ("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, activations=Activations(7)), "as many bits"),
        ("torchao", QuantSpec(Scheme.STATIC, PerChannel(), 8, activations=_TOKENS), "per tensor"),
        ("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 16), "2 to 8 bits"),
        ("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 4, "nvfp4"), "use per_group:16"),
        ("reference", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 8, "mxfp8"), "use per_group:32"),
        ("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(16), 4, "nvfp4", method="gptq"), "has the method rtn"),
    ],
)
def test_what_a_library_cannot_do_is_a_reason(backend, spec, reason):
    require(backend)
    answer = capability(spec, backend)
    assert isinstance(answer, Unsupported)
    assert reason in answer.reason


@pytest.mark.parametrize("number_format", BLOCK_SIZES)
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("backend", available())
def test_block_formats_are_those_of_our_own_backends(backend, scheme, number_format):
    require(backend)
    granularity, bits = PerGroup(BLOCK_SIZES[number_format]), FORMAT_BITS[number_format]
    answer = capability(QuantSpec(scheme, granularity, bits, number_format), backend)
    own = backend in ("ptq", "reference") and scheme is not Scheme.NONE
    assert isinstance(answer, Supported if own else Unsupported)


@pytest.mark.parametrize("backend", available())
def test_outputs_are_rounded_where_a_backend_says_so_alone(backend):
    require(backend)
    asked = QuantSpec(Scheme.STATIC, PerChannel(), 8, outputs=True)
    if backend in ("torch_static", "onnxruntime", "reference"):
        assert isinstance(capability(asked, backend), Supported)
    else:
        assert capability(asked, backend).reason == f"{backend} leaves what layers give as floats: leave outputs out"


@pytest.mark.parametrize("case", [*SUPPORTED, *ENGINES], ids=str)
def test_outputs_are_rounded_unasked_by_torch_static_and_onnxruntime_alone(case):
    if case.spec.outputs is None:
        assert resolve(case.spec, case.backend, dict(case.options))[0].outputs is (
            case.backend in ("torch_static", "onnxruntime") and case.spec.scheme == "static"
        )


@pytest.mark.parametrize("engine", ["onednn", "qnnpack"])
def test_float_outputs_need_an_engine_that_has_them(engine):
    asked = QuantSpec(Scheme.STATIC, PerChannel(), 8, outputs=False)
    assert "x86 or fbgemm" in capability(asked, "torch_static", {"engine": engine}).reason


def test_qnnpack_has_no_convolutions():
    asked = QuantSpec(Scheme.STATIC, PerChannel(), 8, modules=_CONV)
    assert "leave conv out" in capability(asked, "torch_static", {"engine": "qnnpack"}).reason


def test_weight_only_int8_of_bitsandbytes_is_for_the_cpu():
    spec = QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8)
    assert isinstance(capability(spec, "bitsandbytes", device="cpu"), Supported)
    assert "LLM.int8()" in capability(spec, "bitsandbytes", device="cuda").reason


def test_unknown_backend_proposes_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'quanto'"):
        capability(QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8), "quantoo")


def test_unknown_option_names_the_allowed():
    with pytest.raises(SpecError, match="axis, straddle"):
        capability(QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8), "hqq", {"axes": 1})
    with pytest.raises(SpecError, match="type int"):
        capability(QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8), "hqq", {"axis": "1"})


def test_a_missing_library_is_an_answer_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(base, "_version", lambda name: "none" if name == "optimum-quanto" else "1")
    answer = capability(QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8), "quanto")
    assert answer == Unsupported("optimum-quanto is not installed: pip install optimum-quanto")


def test_capability_matrix_is_printed_without_torch():
    code = "import runpy, sys; sys.argv = ['backends']\ntry: runpy.run_module('backends', run_name='__main__')\n"
    code += "except SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for backend in available():
        assert backend in done.stdout
    assert "no: Quanto's activations are static only" in done.stdout.replace("\n", " ") or "static only" in done.stdout
