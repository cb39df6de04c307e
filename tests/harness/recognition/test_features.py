"""Features are computed once a run, and are the same when they are found ready."""

from dataclasses import replace

import pytest
import torch

from harness import datasets
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.cell import Cell
from harness.experiment.tables import Data, Decoding
from harness.grid import main
from harness.recognition.features import FeatureStore
from harness.recognition.loading import load_recognizer
from tests.harness.checkpoints import save_moonshine

DATA = Data(dataset="embedded", split="clean", limit=5)
SPEECH = datasets.get("embedded").load(DATA).utterances
IDENTITY = {
    "data": {"id": "embedded", "revision": "1"},
    "decoding": {"long_audio": "truncate"},
    "versions": {"transformers": "5", "numpy": "2", "soundfile": "1", "soxr": "1", "torch": "2"},
}


def cell(**changes):
    return Cell(None, DATA, {**IDENTITY, **changes}, "id", ())


def identities(prepared):
    return [(g.rows, g.whole, sorted(g.inputs)) for g in prepared.groups]


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_what_is_kept_is_what_was_prepared(family, tmp_path):
    model = MODEL_DIRECTORY if family == "whisper" else save_moonshine(tmp_path / "model")
    recognizer = load_recognizer(model, "float32", "cpu")
    waveforms = [u.waveform() for u in SPEECH]
    asked = []

    def prepare():
        asked.append(1)
        return recognizer.prepare(waveforms, Decoding())

    store = FeatureStore(tmp_path / "features", model)
    first, second = (store.batch(cell(), [u.id for u in SPEECH], prepare) for _ in range(2))
    assert len(asked) == 1
    assert identities(first) == identities(second)
    assert replace(first, groups=(), seconds=0) == replace(second, groups=(), seconds=0)
    for one, other in zip(first.groups, second.groups, strict=True):
        assert all(torch.equal(one.inputs[key], other.inputs[key]) for key in one.inputs)
    decoding = Decoding(max_new_tokens=12)
    assert recognizer.transcribe(second, decoding) == recognizer.transcribe(waveforms, decoding)
    assert not list((tmp_path / "features").glob(".*"))


def test_what_changes_features_changes_the_key(tmp_path):
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    prepared = recognizer.prepare([SPEECH[0].waveform()], Decoding())
    asked = []

    def batch(model=MODEL_DIRECTORY, ids=("a",), **changes):
        before = len(asked)
        FeatureStore(tmp_path / "features", model).batch(cell(**changes), ids, lambda: asked.append(1) or prepared)
        return len(asked) > before

    assert batch()
    assert not batch()
    assert not batch(versions={**IDENTITY["versions"], "torch": "3", "hqq": "1"})
    assert batch(versions={**IDENTITY["versions"], "soxr": "9"})
    assert batch(decoding={"long_audio": "sequential"})
    assert batch(data={"id": "embedded", "revision": "2"})
    assert batch(ids=("a", "b"))
    assert batch(model=save_moonshine(tmp_path / "model"))


def test_a_run_leaves_no_features_behind(tmp_path):
    experiment = tmp_path / "small.toml"
    experiment.write_text(
        'name = "small"\nmodel = "embedded"\n[[data]]\ndataset = "embedded"\nsplit = "clean"\nlimit = 3\n'
        '[decoding]\nmax_new_tokens = 5\n[run]\ndevice = "cpu"\n[[grid]]\nbackend = "quanto"\nbits = 8\n'
    )
    assert main([str(experiment), "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in (tmp_path / "small").iterdir() if not path.name.startswith(".")) == [
        "cells", "experiment.json", "results.csv", "results.parquet", "results.sha256", "run.json",
    ]  # fmt: skip
