"""A model that only transcribes, from the experiment file to the results, and what is said where it cannot do more."""

from types import SimpleNamespace

import numpy as np
import pandas
import pytest

pytest.importorskip(
    "backends.ctranslate2._library",
    reason='ctranslate2 is not installed: pip install ".[ctranslate2]"',
    exc_type=ImportError,
)

from backends import UnsupportedError, quantize
from backends.core.spec import EVERYTHING
from harness.analyze import main as analyze
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Decoding
from harness.grid import main as grid
from harness.latency import main as latency
from harness.recognition.features import Group, PreparedBatch
from harness.recognition.loading import load_recognizer
from harness.records.recording import RunDirectory

EXPERIMENT = """
name = "engine"
model = "embedded"
[[data]]
dataset = "embedded"
split = "clean"
limit = 6
[decoding]
batch_size = 3
max_new_tokens = 40
strategy = "draft"
[run]
device = "cpu"
workers = 1
[[grid]]
backend = "ctranslate2"
scheme = "none"
granularity = "per_tensor"
bits = 32
format = "fp32"
[[grid]]
backend = "ctranslate2"
scheme = "dynamic"
bits = 8
modules = ["linear", "head", "embedding", "conv"]
[[grid]]
backend = "ggml"
scheme = "dynamic"
granularity = "per_group:32"
bits = 8
modules = ["linear", "tied"]
[[grid]]
backend = "quanto"
bits = 8
"""
WHOLE = [str(kind) for kind in EVERYTHING]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("engine")
    path = root / "engine.toml"
    path.write_text(EXPERIMENT)
    assert grid([str(path), "--out", str(root)]) == 0
    frame = pandas.read_parquet(root / "engine" / "results.parquet").set_index(["backend", "format"])
    return SimpleNamespace(path=path, root=root, frame=frame)


def test_it_is_a_cell_like_others_without_likelihood_and_drafts(run):
    engine, baseline, quanto = (
        run.frame.loc[key] for key in (("ctranslate2", "int"), ("none", "fp32"), ("quanto", "int"))
    )
    assert (engine["status"], engine["drafted"]) == ("done", 0)
    assert quanto["drafted"] == 1
    assert np.isnan(engine["nll"])
    assert baseline["nll"] > 0
    assert engine["rtfx"] > 0
    assert engine["size_bytes"] == pytest.approx(engine["file_bytes"], rel=0.01)
    assert engine["size_bytes"] < 0.3 * baseline["size_bytes"]
    assert engine["bops_per_audio_second"] < 0.2 * baseline["bops_per_audio_second"]


def test_ggml_is_one_too(run):
    pytest.importorskip("pywhispercpp", reason='pywhispercpp is not installed: pip install ".[ggml]"')
    engine, baseline = run.frame.loc[("ggml", "int")], run.frame.loc[("none", "fp32")]
    assert (engine["status"], engine["drafted"]) == ("done", 0)
    assert np.isnan(engine["nll"])
    assert engine["size_bytes"] == pytest.approx(engine["file_bytes"], rel=0.01)
    assert engine["size_bytes"] < 0.31 * baseline["size_bytes"]
    assert engine["bops_per_audio_second"] < 0.25 * baseline["bops_per_audio_second"]


def test_in_full_precision_it_says_the_same(run):
    assert run.frame.loc[("ctranslate2", "fp32"), "identical"]
    assert run.frame.loc[("ctranslate2", "fp32"), "bops_per_audio_second"] == pytest.approx(
        run.frame.loc[("none", "fp32"), "bops_per_audio_second"]
    )


def test_whole_transcriptions_are_timed_and_the_rest_is_explained(run, capsys):
    asked = [str(run.path), "--out", str(run.root), "--only", "backend=ctranslate2,bits=8", "--repeats", "1"]
    assert latency([*asked, "--warmup", "0"]) == 0
    rows = RunDirectory(run.root / "engine").latency()["rows"]
    assert [row["measure"] for row in rows] == ["rtfx", "rtfx_batch", None]
    assert rows[-1]["status"] == "whole transcriptions only"
    assert "can be called by itself" in capsys.readouterr().out


def test_its_layers_are_not_analysed_and_that_is_said(run, capsys):
    assert analyze([str(run.path), "--out", str(run.root), "--only", "backend=ctranslate2"]) == 2
    said = capsys.readouterr()
    assert "not analysed: another engine computes its layers unseen" in said.out
    assert "no configuration that can be analysed" in said.err


def test_inputs_that_stay_float_are_priced_as_floats(run):
    operations = pandas.concat(
        pandas.read_parquet(path) for path in (run.root / "engine" / "cells").glob("*/operations.parquet")
    )
    encoder = operations[(operations.phase == "encoder") & (operations.weight_bits == 8)]
    bits = encoder.groupby("kind").activation_bits.agg(set)
    assert bits["linear"] == {8, 32}  # CTranslate2's; those of Quanto, which rounds weights alone
    assert bits["conv"] == {32}


def test_long_audio_is_refused_where_only_a_window_is_heard():
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    asked = {"scheme": "dynamic", "granularity": "per_channel", "bits": 8, "modules": WHOLE}
    recognizer.model = quantize(recognizer.model, backend="ctranslate2", **asked).model
    features = recognizer.inputs([np.zeros(16_000, dtype=np.float32)])
    batch = PreparedBatch((16_000,), (0.0,), (Group((0,), True, features),), 0.0)
    with pytest.raises(UnsupportedError, match='long_audio = "truncate"'):
        recognizer.transcribe(batch, Decoding())
