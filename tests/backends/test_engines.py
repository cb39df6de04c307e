"""What every adapter of an engine outside torch promises, for everything that it says it supports."""

import filecmp
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from backends import Form, PerGroup, capability, quantize_spec
from backends.core.manifest import ENGINE, MANIFEST, WEIGHTS
from tests.backends.cases import ENGINES
from tests.conftest import build_prompted_whisper

pytestmark = pytest.mark.skipif(not ENGINES, reason="no engine is installed")

_RELOAD = """
import json, sys, torch
from backends import load
features = torch.load(sys.argv[1], weights_only=True)
for directory in json.loads(sys.argv[2]):
    quantized = load(directory)
    tokens = quantized.model.generate(input_features=features, max_new_tokens=12, language="en", task="transcribe")
    torch.save(tokens, directory + "/reloaded.pt")
    quantized.save(directory + "-again")
"""


def _whisper():
    """Of widths that all engines and types take."""
    return build_prompted_whisper(width=256, encoder_ffn_dim=1024, decoder_ffn_dim=1024)


def _tokens(model, features):
    with torch.no_grad():
        return model.generate(input_features=features, max_new_tokens=12, language="en", task="transcribe")


def _likeliest(features):
    """The five likeliest of 512 first tokens, (batch, 5): 4 bits move random weights beyond what the first is ahead."""
    with torch.no_grad():
        found = _whisper().generate(
            input_features=features,
            max_new_tokens=1,
            language="en",
            task="transcribe",
            return_dict_in_generate=True,
            output_scores=True,
        )
    return found.scores[0].topk(5).indices


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, whisper_inputs, exported_once):
    """Every case quantized once, saved before and after it transcribed, with its tokens."""
    root = tmp_path_factory.mktemp("engines")
    features, done = whisper_inputs["input_features"], {}
    for case in ENGINES:
        result = quantize_spec(_whisper(), case.spec, case.backend, dict(case.options), [whisper_inputs] * 2)
        result.save(root / f"{case}" / "before")
        tokens = _tokens(result.model, features)
        result.save(root / f"{case}" / "after")
        done[case] = (result, tokens)
    return root, done


@pytest.fixture(scope="module")
def reloaded(quantized, whisper_inputs):
    root, _ = quantized
    torch.save(whisper_inputs["input_features"], root / "features.pt")
    directories = [str(root / f"{case}" / "after") for case in ENGINES]
    done = subprocess.run(
        [sys.executable, "-c", _RELOAD, str(root / "features.pt"), json.dumps(directories)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_the_model_has_the_form_that_was_announced(case, quantized):
    model = quantized[1][case][0].model
    form = capability(case.spec, case.backend, dict(case.options)).form
    assert isinstance(model, nn.Module) == (form is Form.MODULE)
    assert model.config.vocab_size == 512
    assert model.main_input_name == "input_features"


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_tokens_are_those_of_transformers_or_near(case, quantized, whisper_inputs):
    expected = _tokens(_whisper(), whisper_inputs["input_features"])
    tokens = quantized[1][case][1]
    assert tokens.dtype == expected.dtype
    assert tokens.shape == expected.shape
    if case.spec.scheme == "none":
        assert torch.equal(tokens, expected)
    assert (tokens[:, :1] == _likeliest(whisper_inputs["input_features"])).any(-1).all()


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_report_says_what_was_asked_and_what_came(case, quantized):
    result = quantized[1][case][0]
    report = result.report
    assert [layer.name for layer in report.layers if layer.kind in ("head", "tied")] == ["proj_out"]
    for layer in report.layers:
        assert (layer.effective is None) == (layer.requested is None)
        assert layer.requested is not None or layer.reason
        narrow = layer.effective is None and layer.effective_bits == 16
        assert (layer.weight_error > 0) == (layer.effective is not None or narrow)
        assert not narrow or layer.weight_error < 1e-3
        assert layer.effective_bits >= (layer.effective.bits if layer.effective else 16)
    if case.spec.scheme != "none":
        assert report.size_bytes < report.full_precision_bytes
        stored = 8 if case.spec.bits == 7 else case.spec.bits
        scales = 40 / case.spec.granularity.group_size if isinstance(case.spec.granularity, PerGroup) else 0
        assert stored <= report.effective_bits < stored + max(0.7, scales)


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_counted_bytes_agree_with_the_files(case, quantized):
    root, done = quantized
    directory = root / f"{case}" / "before"
    torch_bytes = (directory / WEIGHTS).stat().st_size
    engine_bytes = sum(file.stat().st_size for file in (directory / ENGINE).glob("*.bin"))
    assert torch_bytes + engine_bytes == pytest.approx(done[case][0].report.size_bytes, rel=0.02)


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_saving_before_and_after_transcribing_gives_the_same_files(case, quantized):
    before, after = (quantized[0] / f"{case}" / when for when in ("before", "after"))
    engine = sorted(f"{ENGINE}/{file.name}" for file in (before / ENGINE).iterdir())
    assert engine == sorted(f"{ENGINE}/{file.name}" for file in (after / ENGINE).iterdir())
    for name in (WEIGHTS, MANIFEST, *engine):
        assert filecmp.cmp(before / name, after / name, shallow=False), name


@pytest.mark.parametrize("case", ENGINES, ids=str)
def test_reloaded_in_a_new_process_gives_the_same_words_and_can_be_saved_again(case, quantized, reloaded):
    after = reloaded / f"{case}" / "after"
    assert torch.equal(torch.load(after / "reloaded.pt", weights_only=True), quantized[1][case][1])
    again = reloaded / f"{case}" / "after-again"
    assert {p.name: p.read_bytes() for p in (again / ENGINE).iterdir()} == {
        p.name: p.read_bytes() for p in (after / ENGINE).iterdir()
    }
