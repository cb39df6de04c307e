"""The command line end to end on the embedded benchmark: real libraries, real processes, a few utterances."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas
import pytest

from harness.grid import main

COLUMNS = (
    "cell_id status reason model dataset backend method scheme granularity group_size bits format symmetric "
    "activations modules parts options wer cer nll substitutions deletions insertions reference_words utterances "
    "empty_rate loop_rate size_bytes file_bytes size_reduction effective_bits quantize_seconds quantize_peak_bytes "
    "audio_seconds compute_seconds rtfx peak_rss_bytes"
).split()
HEAD = """
name = "small"
[[model]]
path = "embedded"
[[data]]
dataset = "embedded"
split = "clean"
limit = 6
[[data]]
dataset = "embedded"
split = "other"
limit = 4
[decoding]
batch_size = 4
max_new_tokens = 40
[calibration]
data = { dataset = "embedded", split = "calibration" }
utterances = 8
[run]
device = "cpu"
workers = 1
"""
GRID = """
[[grid]]
backend = "quanto"
bits = 8
[[grid]]
backend = "torch_static"
scheme = "static"
bits = 8
options.torch_static.reduce_range = true # on any processor
[[grid]]
backend = "hqq"
granularity = "per_group:96"
bits = 4
[[grid]]
backend = "hqq"
bits = 7
"""
CRASHING = """
import os, signal
from dataclasses import replace
from backends.reference import Reference

class Crashing(Reference):
    name = "crashing"
    def convert(self, candidate, spec, options):
        if spec.bits == 8:
            os.kill(os.getpid(), signal.SIGSEGV)
        if spec.bits == 7:
            raise RuntimeError("a library's own mistake")
        if spec.bits == 6:
            import time
            time.sleep(60)
        if spec.bits == 5:
            raise MemoryError("no room")
        return super().convert(candidate, spec, options)

BACKEND = Crashing()
"""
MENDED = """
from backends.reference import Reference

class Crashing(Reference):
    name = "crashing"

BACKEND = Crashing()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("grid")
    path = root / "small.toml"
    path.write_text(HEAD + GRID)
    assert main([str(path), "--out", str(root / "runs")]) == 0
    return path, root / "runs"


def results(runs, name="small"):
    return pandas.read_parquet(runs / name / "results.parquet")


def test_every_planned_cell_is_a_row(finished):
    _, runs = finished
    frame = results(runs)
    assert set(COLUMNS) <= set(frame.columns)
    assert len(frame) == 2 * 5
    by_backend = {name: set(rows["status"]) for name, rows in frame.groupby("backend")}
    assert by_backend["none"] == by_backend["quanto"] == by_backend["torch_static"] == {"done"}
    assert by_backend["hqq"] == {"unsupported"}
    reasons = set(frame[frame["backend"] == "hqq"]["reason"])
    assert any("96 does not divide" in reason and "self_attn.q_proj" in reason for reason in reasons)
    assert any("8, 6, 5, 4, 3, 2 and 1 bits" in reason for reason in reasons)
    assert len(pandas.read_csv(runs / "small" / "results.csv")) == len(frame)


def test_rows_say_what_was_measured(finished):
    done = results(finished[1]).query("status == 'done'")
    assert (done["utterances"] == [6, 4] * 3).all()
    assert (done["reference_words"] > 20).all()
    errors = done["substitutions"] + done["deletions"] + done["insertions"]
    assert (done["wer"] - errors / done["reference_words"]).abs().max() < 1e-12
    plain = done["drafted"] == 0
    assert (done[plain]["rtfx"] > 1).all(), "one worker alone may report its speed"
    assert done[~plain]["rtfx"].isna().all(), "but not that of drafts"
    assert (done["peak_rss_bytes"] > 100e6).all()
    baseline, quanto = (done[done["backend"] == name].iloc[0] for name in ("none", "quanto"))
    assert baseline["size_reduction"] == 0
    assert 0.6 < quanto["size_reduction"] < 0.7
    assert quanto["file_bytes"] == pytest.approx(quanto["size_bytes"], rel=0.01)


def test_rows_tell_how_far_answers_are_from_the_baselines_and_what_is_saved_of_the_published_size(finished):
    done = results(finished[1]).query("status == 'done'")
    own, baselines = done[done["backend"] != "none"], done[done["backend"] == "none"]
    assert own["same_top"].between(0.9, 1).all()
    assert (own["divergence_mean"] < own["divergence_p99"]).all()
    assert (own["divergence_p99"] <= own["divergence_max"]).all()
    assert baselines[["same_top", "divergence_mean"]].isna().all(axis=None)
    assert set(done["published_dtype"]) == {"float16"}
    assert (baselines["size_reduction_published"] + 1).abs().max() < 0.01
    assert (own["size_reduction_published"] < own["size_reduction"]).all()


def test_cells_keep_raw_transcripts_layers_and_environment(finished):
    _, runs = finished
    row = results(runs).query("backend == 'quanto'").iloc[0]
    cell = runs / "small" / "cells" / row["cell_id"]
    utterances = pandas.read_parquet(cell / "utterances.parquet")
    assert utterances["id"].is_unique
    assert utterances["seconds"].is_monotonic_decreasing, "in the order of the batches, the longest first"
    assert utterances["reference"].str.isupper().all()
    assert utterances["speaker"].is_unique, "six of twenty-four"
    layers = pandas.read_parquet(cell / "layers.parquet")
    assert set(layers["kind"]) == {"linear", "head", "embedding", "conv"}
    assert set(layers.query("kind == 'linear'")["effective"]) == {"int8 per_channel symmetric"}
    environment = json.loads((cell / "environment.json").read_text())
    assert environment["packages"]["optimum-quanto"]
    content = json.loads((cell / "cell.json").read_text())
    assert content["identity"]["versions"]["optimum-quanto"]
    assert content["rules"] == {"begin_suppress_tokens": [503], "suppress_tokens": list(range(504, 512))}


def test_a_second_run_does_nothing_again_but_tidy_up(finished, capsys):
    path, runs = finished
    left = Path(tempfile.gettempdir()) / f"asrquant-{os.getuid()}-dead.lock"
    left.touch()
    before = {p: p.stat().st_mtime_ns for p in (runs / "small" / "cells").glob("*/DONE")}
    assert main([str(path), "--out", str(runs)]) == 0
    assert "cells to do" not in capsys.readouterr().out
    assert not left.exists()
    assert {p: p.stat().st_mtime_ns for p in (runs / "small" / "cells").glob("*/DONE")} == before


def test_a_command_that_cannot_begin_leaves_the_run_as_it_is(finished, capsys):
    path, runs = finished
    before = (runs / "small" / "experiment.json").read_bytes()
    assert main([str(path), "--out", str(runs), "--set", 'model="nowhere/at all"']) == 2
    assert "there is no such directory" in capsys.readouterr().err
    assert (runs / "small" / "experiment.json").read_bytes() == before


def test_a_repeated_cell_gives_the_same_digits(finished, tmp_path):
    path, runs = finished
    assert main([str(path), "--out", str(tmp_path), "--only", "backend=torch_static", "--workers", "2"]) == 0
    again = results(tmp_path).set_index("cell_id")
    first = results(runs).set_index("cell_id").loc[again.index]
    assert again["backend"].tolist() == ["none", "none", "torch_static", "torch_static"]
    assert (again["wer"] == first["wer"]).all()
    assert again["rtfx"].isna().all(), "two at a time disturb each other"
    for cell in again.index:
        tables = [pandas.read_parquet(r / "small" / "cells" / cell / "utterances.parquet") for r in (runs, tmp_path)]
        assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_a_saved_model_transcribes_alike_in_a_new_process(finished, tmp_path):
    code = """
import sys
from backends import load, quantize
from harness import datasets
from harness.experiment.tables import Data, Decoding
from harness.embedded import MODEL_DIRECTORY
from harness.recognition.loading import load_recognizer
recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
if sys.argv[1] == "save":
    quantized = quantize(recognizer.model, "weight_only", "per_group:64", 4, backend="hqq")
    quantized.save(sys.argv[2])
else:
    quantized = load(sys.argv[2])
    assert (__import__("pathlib").Path(sys.argv[2]) / "tokenizer.json").exists()
recognizer.model = quantized.model
speech = datasets.get("embedded").load(Data(dataset="embedded", split="clean", limit=4)).utterances
heard = recognizer.transcribe([u.waveform() for u in speech], Decoding(max_new_tokens=40))
print([t.text for t in heard])
"""
    heard = [
        subprocess.run(
            [sys.executable, "-c", code, step, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        for step in ("save", "load")
    ]
    assert heard[0] == heard[1]
    assert len(heard[0]) > 100


@pytest.fixture
def crashing(tmp_path):
    """An experiment with a plug-in that crashes, raises, hangs and runs out of memory, and its environment."""
    package = tmp_path / "plugin"
    (package / "crashing-1.0.dist-info").mkdir(parents=True)
    (package / "crashing_backend.py").write_text(CRASHING)
    (package / "crashing-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n"
    )
    points = "[asrquant.backends]\ncrashing = crashing_backend:BACKEND\n"
    (package / "crashing-1.0.dist-info" / "entry_points.txt").write_text(points)
    path = tmp_path / "crash.toml"
    path.write_text(HEAD.replace("small", "crash") + '[[grid]]\nbackend = "crashing"\nbits = [8, 7, 6, 5, 4]\n')
    return path, {**os.environ, "PYTHONPATH": str(package)}


@pytest.mark.slow
def test_a_crash_costs_one_configuration(crashing, tmp_path):
    path, environment = crashing
    command = [sys.executable, "-m", "harness.grid", str(path), "--out", str(tmp_path), "--set", "run.stall_timeout=20"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert not done.stderr
    frame = results(tmp_path, "crash").query("split == 'clean'").set_index("bits")
    assert frame["status"].to_dict() == {
        32: "done", 8: "failed", 7: "failed", 6: "timed_out", 5: "out_of_memory", 4: "done"
    }  # fmt: skip
    assert "SIGSEGV" in frame.loc[8, "reason"]
    assert frame.loc[7, "reason"] == "RuntimeError: a library's own mistake"
    assert "Traceback" in (tmp_path / "crash" / "cells" / frame.loc[7, "cell_id"] / "log.txt").read_text()
    assert "stall_timeout" in frame.loc[6, "reason"]
    assert "no room" in frame.loc[5, "reason"]

    (tmp_path / "plugin" / "crashing_backend.py").write_text(MENDED)
    for flags, expected in (([], frame["status"].to_dict()), (["--retry"], dict.fromkeys(frame.index, "done"))):
        again = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True, timeout=300)
        assert again.returncode == (0 if flags else 1), again.stderr
        statuses = results(tmp_path, "crash").query("split == 'clean'").set_index("bits")["status"].to_dict()
        assert statuses == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_children_and_goes_on_later(crashing, tmp_path, number):
    path, environment = crashing
    command = [sys.executable, "-m", "harness.grid", str(path), "--out", str(tmp_path), "--only", "bits=6"]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    cells = tmp_path / "crash" / "cells"
    until = time.monotonic() + 60
    while len(list(cells.glob("*/DONE"))) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "the same command does the rest" in output
    assert "Traceback" not in errors
    assert len(list(cells.glob("*/DONE"))) == 2
