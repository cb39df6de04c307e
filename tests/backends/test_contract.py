"""What every adapter promises, for everything that it says it supports."""

import filecmp
import json
import subprocess
import sys

import pytest
import torch

from backends import Scheme, quantize_spec
from backends._checkpoint import MANIFEST, WEIGHTS
from backends._report import size_bytes
from tests.backends.cases import SUPPORTED
from tests.conftest import build_whisper

_RELOAD = """
import json, sys, torch
from backends import load
torch.set_num_threads(1)
inputs = torch.load(sys.argv[1], weights_only=True)
for directory in json.loads(sys.argv[2]):
    model = load(directory).model
    dtype = torch.bfloat16 if "bf16" in directory else torch.float16 if "cast-none-fp16" in directory else torch.float32
    inputs_of = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        logits = model(**inputs_of).logits
        tokens = model.generate(input_features=inputs_of["input_features"], max_new_tokens=12)
    torch.save([logits, tokens], directory + "/reloaded.pt")
"""


def _inputs(case, inputs):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(case.spec.format if case.backend == "cast" else "")
    return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in inputs.items()}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, whisper_inputs):
    """Every supported case quantized once, saved before and after a forward, with its logits and generated tokens."""
    root = tmp_path_factory.mktemp("quantized")
    done = {}
    for case in SUPPORTED:
        result = quantize_spec(build_whisper(), case.spec, case.backend, dict(case.options), [whisper_inputs] * 2)
        result.save(root / f"{case}" / "before")
        inputs = _inputs(case, whisper_inputs)
        with torch.no_grad():
            logits = result.model(**inputs).logits
            tokens = result.model.generate(input_features=inputs["input_features"], max_new_tokens=12)
        result.save(root / f"{case}" / "after")
        done[case] = (result, logits, tokens)
    return root, done


@pytest.fixture(scope="module")
def reloaded(quantized, whisper_inputs):
    root, _ = quantized
    torch.save(whisper_inputs, root / "inputs.pt")
    directories = [str(root / f"{case}" / "before") for case in SUPPORTED]
    done = subprocess.run(
        [sys.executable, "-c", _RELOAD, str(root / "inputs.pt"), json.dumps(directories)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_logits_stay_close_to_full_precision(case, quantized, whisper_inputs):
    _, done = quantized
    with torch.no_grad():
        expected = build_whisper()(**whisper_inputs).logits
    error = (done[case][1].float() - expected).norm() / expected.norm()
    assert torch.isfinite(done[case][1]).all()
    assert error <= {None: 0.1, 1: 3.0, 2: 1.2, 3: 0.6, 4: 0.4}.get(case.spec.bits, 0.15)
    assert (error == 0) == (case.backend == "none")


@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_report_says_what_was_asked_and_what_came(case, quantized):
    result = quantized[1][case][0]
    report = result.report
    assert [layer.name for layer in report.layers if layer.kind == "head"] == ["proj_out"]
    chosen = [layer for layer in report.layers if layer.requested is not None]
    assert bool(chosen) == (case.backend != "none")
    for layer in report.layers:
        assert layer.requested is not None or layer.reason
        if layer.effective is not None:
            assert layer.weight_error > 0
            assert layer.effective_bits <= 32
    if case.spec.scheme is not Scheme.NONE and case.backend != "reference":
        assert report.size_bytes < report.full_precision_bytes
        assert report.effective_bits < 16.2
        stored = {5: 8, 6: 8}.get(case.spec.bits, case.spec.bits) if case.backend == "hqq" else case.spec.bits
        assert report.effective_bits >= stored


@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_counted_bytes_agree_with_the_file_and_survive_a_forward(case, quantized):
    root, done = quantized
    report = done[case][0].report
    file = root / f"{case}" / "before" / WEIGHTS
    header = int.from_bytes(file.read_bytes()[:8], "little") + 8
    assert file.stat().st_size - header == pytest.approx(report.size_bytes, rel=0.01)
    assert size_bytes(done[case][0].model) == pytest.approx(report.size_bytes, rel=0.001)


@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_saving_before_and_after_a_forward_gives_the_same_files(case, quantized):
    directory = quantized[0] / f"{case}"
    for name in (WEIGHTS, MANIFEST, "config.json"):
        assert filecmp.cmp(directory / "before" / name, directory / "after" / name, shallow=False), name


@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_reloaded_in_a_new_process_gives_the_same_bits_and_words(case, quantized, reloaded):
    logits, tokens = torch.load(reloaded / f"{case}" / "before" / "reloaded.pt", weights_only=True)
    assert torch.equal(logits, quantized[1][case][1])
    assert torch.equal(tokens, quantized[1][case][2])
    assert tokens.shape[1] > 5


def test_the_default_leaves_the_tie(quantized):
    for case, (result, *_) in quantized[1].items():
        if case.spec.modules == frozenset({"linear"}) or case.backend in ("none", "cast"):
            assert result.model.proj_out.weight is result.model.get_input_embeddings().weight
