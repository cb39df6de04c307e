"""Timing in turns, and the latency command end to end on the embedded benchmark. No test expects a time."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch

from harness.errors import DataError
from harness.execution.latency import _unstable
from harness.execution.timing import Speech, _in_turns, _summary, timed
from harness.experiment.tables import Decoding
from harness.latency import main
from harness.recognition.loading import load_recognizer
from harness.records.recording import RunDirectory
from harness.records.results import LATENCY, SPEED, _timed
from tests.harness.checkpoints import save_moonshine

EXPERIMENT = """
name = "timed"
model = "embedded"
[[data]]
dataset = "embedded"
split = "clean"
limit = 4
[decoding]
batch_size = 2
max_new_tokens = 20
[run]
device = "cpu"
workers = 1
[[grid]]
backend = ["quanto", "reference"]
bits = 8
[[grid]]
backend = "failing"
bits = [8, 6]
"""
FAILING = """
import os, signal
from backends.reference import Reference
from backends import Supported

class Failing(Reference):
    name = "failing"
    def capability(self, spec, options, device):
        return Supported()
    def convert(self, candidate, spec, options):
        if spec.bits == 8:
            raise MemoryError("no room for two")
        os.kill(os.getpid(), signal.SIGSEGV)

BACKEND = Failing()
"""


def test_baseline_and_quantized_take_turns_and_change_places():
    calls = []
    actions = [lambda name=name: calls.append(name) for name in "tq"]
    assert _in_turns(actions, repeats=3, warmup=1, device=torch.device("cpu")).shape == (3, 2)
    assert "".join(calls) == "tqqttqqt"


def test_the_ratio_is_of_pairs_not_of_medians():
    seconds = np.array([[1.0, 2.0], [10.0, 5.0], [100.0, 300.0]])
    row = _summary(seconds, None)
    assert (row["baseline_median"], row["quantized_median"], row["ratio_median"]) == (10, 5, 2)
    assert (row["ratio_lower_quartile"], row["ratio_upper_quartile"]) == (1.25, 2.5)
    speed = _summary(seconds, 10.0)
    assert (speed["baseline_median"], speed["ratio_median"]) == (1, 0.5)
    assert speed["unit"] == "seconds of audio per second"


def test_moonshine_is_timed_like_whisper(tmp_path):
    directory = save_moonshine(tmp_path / "moonshine")
    baseline, quantized = (load_recognizer(directory, "float32", "cpu") for _ in range(2))
    speech = [np.zeros(length, dtype=np.float32) for length in (8_000, 12_000)]
    rows = list(timed(baseline, quantized, Speech(speech, speech), Decoding(max_new_tokens=3), repeats=1, warmup=0))
    assert [row["measure"] for row in rows] == list(LATENCY)
    assert [row["batch"] for row in rows] == [1] * 4 + [2] * 4
    assert [(row["utterances"], row["audio_seconds"]) for row in rows if "rtfx" in row["measure"]] == [(2, 1.25)] * 2


def test_one_utterance_is_not_timed_as_a_batch_again(tmp_path):
    directory = save_moonshine(tmp_path / "moonshine")
    baseline, quantized = (load_recognizer(directory, "float32", "cpu") for _ in range(2))
    alone = Speech([np.zeros(8_000, dtype=np.float32)], [np.zeros(12_000, dtype=np.float32)])
    rows = timed(baseline, quantized, alone, Decoding(max_new_tokens=3), repeats=1, warmup=0)
    assert [row["measure"] for row in rows] == list(LATENCY)[:4]


def test_what_is_timed_is_of_lengths_that_stand_for_all_and_of_what_is_heard():
    def utterance(n):
        return SimpleNamespace(id=str(n), seconds=lambda: n / 16_000, waveform=lambda: np.zeros(n, dtype=np.float32))

    utterances = [utterance(n) for n in (800, 100, 700, 300, 200, 600, 400, 500)]
    speech = Speech.of(utterances, utterances[:2], longest=650)
    assert [len(waveform) for waveform in speech.alone] == [600, 200, 400, 650]
    assert [len(waveform) for waveform in speech.batch] == [650, 100]
    few = Speech.of(utterances[:2], utterances[:1], longest=None)
    assert [len(waveform) for waveform in few.alone] == [800, 100]


def test_what_cannot_be_decoded_is_not_timed():
    def unreadable():
        raise DataError("it cannot be decoded")

    def utterance(n, seconds=None, waveform=None):
        heard = np.zeros(n, dtype=np.float32)
        return SimpleNamespace(id=str(n), seconds=seconds or (lambda: n), waveform=waveform or (lambda: heard))

    bad = utterance(300, unreadable, unreadable), utterance(400, None, unreadable)
    speech = Speech.of([utterance(100), *bad, utterance(200)], [*bad, utterance(200)], None)
    assert [len(waveform) for waveform in speech.alone] == [200, 100]
    assert [len(waveform) for waveform in speech.batch] == [200]
    with pytest.raises(DataError, match="cannot be decoded"):
        Speech.of(bad, bad, None)


def test_a_time_is_unstable_by_its_spread_the_load_and_the_frequency():
    steady = {"ratio_lower_quartile": 0.96, "ratio_median": 1.0, "ratio_upper_quartile": 1.05}
    assert _unstable(steady, 0.5, 2000.0, 2199.0) == ""
    assert _unstable(steady, 0.5, None, None) == ""
    wide = {**steady, "ratio_upper_quartile": 1.5}
    assert _unstable(wide, 2.0, 2000.0, 1500.0) == (
        "the middle half of the pairs spans 54% of their median ratio; the load average was 2.00 when timing began; "
        "the processor went from 2000 to 1500 MHz"
    )


def test_results_have_the_speed_with_the_fewest_threads_and_the_baseline_s_own():
    def row(name, threads, quantized, baseline, measure="rtfx"):
        own = {"configuration_id": name, "baseline_id": "fp32", "status": "done", "threads": threads}
        statistics = ("lower_quartile", "median", "upper_quartile")
        values = {"quantized": quantized, "baseline": baseline, "ratio": quantized / baseline}
        return {**own, "measure": measure, **{f"{n}_{s}": value for n, value in values.items() for s in statistics}}

    rows = [row("a", 1, 20.0, 10.0), row("a", 2, 99.0, 99.0), row("b", 1, 40.0, 14.0), row("b", 1, 3.0, 2.0, "encoder")]
    rows.append(row("c", 2, 70.0, 50.0))  # with other threads than the others, beside which it cannot be put
    found = _timed({"rows": [*rows, {"configuration_id": "d", "status": "simulated", "threads": 1, "measure": None}]})
    assert found["a"] == {"rtfx_ratio": 2.0, **dict.fromkeys(SPEED, 20.0)}
    assert found["b"] == {"rtfx_ratio": 40 / 14, "latency_encoder_ratio": 1.5, **dict.fromkeys(SPEED, 40.0)}
    assert found["fp32"] == dict.fromkeys(SPEED, 12.0)
    assert set(found) == {"a", "b", "fp32"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The experiment's path, its run directory, and what the latency command answered after a run of the grid."""
    root = tmp_path_factory.mktemp("latency")
    package = root / "plugin"
    (package / "failing-1.0.dist-info").mkdir(parents=True)
    (package / "failing_backend.py").write_text(FAILING)
    (package / "failing-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 1.0\n")
    points = "[asrquant.backends]\nfailing = failing_backend:BACKEND\n"
    (package / "failing-1.0.dist-info" / "entry_points.txt").write_text(points)
    path = root / "timed.toml"
    path.write_text(EXPERIMENT)
    environment = {**os.environ, "PYTHONPATH": str(package)}

    def run(module, *flags):
        command = [sys.executable, "-m", module, str(path), "--out", str(root), *flags]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    assert run("harness.grid", "--only", "backend=quanto|reference").returncode == 0
    answer = run("harness.latency", "--repeats", "2", "--warmup", "0")
    return SimpleNamespace(run=run, directory=RunDirectory(root / "timed"), answer=answer)


def rows_of(finished, backend, bits=8):
    rows = finished.directory.latency()["rows"]
    return [row for row in rows if row["configuration"].startswith(f"{backend} weight_only int{bits}")]


@pytest.mark.slow
def test_every_configuration_has_its_times_or_a_reason(finished):
    assert finished.answer.returncode == 1, finished.answer.stderr
    assert "Traceback" not in finished.answer.stderr
    measured = rows_of(finished, "quanto")
    assert [row["measure"] for row in measured] == list(LATENCY)
    assert all(row["status"] == "done" and row["ratio_median"] > 0 and row["baseline_median"] > 0 for row in measured)
    assert [row["batch"] for row in measured] == [1] * 4 + [2] * 4
    (simulated,) = rows_of(finished, "reference")
    assert (simulated["status"], simulated["measure"]) == ("simulated", None)
    assert not {"ratio_median", "baseline_median"} & set(simulated)
    failed = {row["status"]: row["reason"] for bits in (8, 6) for row in rows_of(finished, "failing", bits)}
    assert "SIGSEGV" in failed.pop("failed")
    assert failed == {"out_of_memory": "not enough memory: no room for two"}
    document = finished.directory.latency()
    assert set(document) == {"environment", "decoding", "speech", "rows"}
    assert document["environment"]["threads"] == 1
    assert all(row["load_at_start"] >= 0 and row["data"] for row in document["rows"])


@pytest.mark.slow
def test_the_results_show_the_ratios_of_what_was_timed(finished):
    frame = pandas.read_parquet(finished.directory.path / "results.parquet").set_index("backend")
    ratios = {row["measure"]: row["ratio_median"] for row in rows_of(finished, "quanto")}
    for measure, column in LATENCY.items():
        assert frame.loc["quanto", column] == ratios[measure]
        assert pandas.isna(frame.loc["reference", column])
        assert pandas.isna(frame.loc["none", column])
    (whole,) = (row for row in rows_of(finished, "quanto") if row["measure"] == "rtfx")
    assert frame.loc["quanto", "timed_rtfx"] == whole["quantized_median"]
    assert frame.loc["none", "timed_rtfx"] == whole["baseline_median"]
    assert list(LATENCY.values())[3:5] == ["rtfx_ratio", "latency_encoder_ratio_batch"]


@pytest.mark.slow
def test_only_what_is_timed_again_is_replaced(finished):
    before = rows_of(finished, "quanto")
    assert finished.run("harness.latency", "--only", "backend=reference", "--threads", "1", "2").returncode == 0
    assert rows_of(finished, "quanto") == before
    assert [row["threads"] for row in rows_of(finished, "reference")] == [1, 2]
    answer = finished.run("harness.latency", "--only", "backend=quanto", "--alone", "--repeats", "1", "--warmup", "0")
    assert answer.returncode == 0
    assert [row["measure"] for row in rows_of(finished, "quanto")] == list(LATENCY)[:4]


@pytest.mark.slow
def test_times_of_another_machine_or_decoding_are_not_mixed_in(finished, tmp_path):
    run = tmp_path / "timed"
    shutil.copytree(finished.directory.path, run)
    answer = finished.run("harness.latency", "--out", str(tmp_path), "--set", "decoding.max_new_tokens=21")
    assert answer.returncode == 2
    assert "max_new_tokens was 20 and is 21" in answer.stderr
    before = RunDirectory(run).latency()
    answer = finished.run("harness.latency", "--out", str(tmp_path), "--set", "data.0.pad_seconds=1.5")
    assert "was timed on other speech" in answer.stderr
    before["environment"]["processor"] = "another"
    RunDirectory(run).write_latency(before)
    answer = finished.run("harness.latency", "--out", str(tmp_path))
    assert answer.returncode == 2
    assert "was timed on another machine (processor was 'another' and is" in answer.stderr
    assert RunDirectory(run).latency() == before


def test_mistakes_are_one_sentence_and_status_2(finished, tmp_path, capsys):
    path = tmp_path / "timed.toml"
    path.write_text(EXPERIMENT[: EXPERIMENT.rindex("[[grid]]")])
    out = ["--out", str(finished.directory.path.parent)]
    for flags, expected in (
        (["--only", "backend=none"], "full precision alone, which the others are timed beside"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--set", "decoding.batchsize=8"], "batchsize"),
    ):
        assert main([str(path), *out, *flags]) == 2
        assert expected in capsys.readouterr().err
    with finished.directory.held():
        assert main([str(path), *out]) == 2
    assert "another command is using it" in capsys.readouterr().err
