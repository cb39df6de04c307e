"""Runners that share a directory, and runs that go on where a killed one was."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from harness.config import load_experiment
from harness.plan import configurations
from harness.store import StoredRun

EXPERIMENT = """
name = "shared"
model = "embedded"
data = [{ dataset = "embedded", split = "clean", limit = 16 }]
decoding = { batch_size = 2, max_new_tokens = 40 }
run = { device = "cpu", workers = 1 }
[[grid]]
backend = ["quanto", "hqq"]
bits = [8, 4]
granularity = ["per_channel", "per_group:64"]
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "shared.toml"
    path.write_text(EXPERIMENT)
    return path


def start(experiment, out, *options):
    command = [sys.executable, "-m", "harness.grid", str(experiment), "--out", str(out), *options]
    environment = {**os.environ, "TMPDIR": str(experiment.parent)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def transcripts(out):
    run = StoredRun(out / "shared")
    return {
        row["configuration"]: [(u["id"], u["hypothesis"], u["tokens"]) for u in run.utterances(row["cell_id"])]
        for row in run.results()
        if row["status"] == "done"
    }


def leftovers(tmp_path):
    return list(tmp_path.glob("asrquant-*"))


def test_three_runners_do_everything_once(experiment, tmp_path):
    runners = [start(experiment, tmp_path / "together") for _ in range(3)]
    said = [runner.communicate(timeout=300)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0]
    done = Counter(label for text in said for label in re.findall(r" s  (.+) on clean: done in", text))
    planned = configurations(load_experiment(experiment))
    possible = {c.label for c in planned if type(c.capability).__name__ == "Supported"}
    assert done == Counter(possible)
    assert all("done by another runner" in text for text in said)
    alone = start(experiment, tmp_path / "alone")
    alone.communicate(timeout=300)
    assert transcripts(tmp_path / "together") == transcripts(tmp_path / "alone")
    assert not (tmp_path / "together" / "shared" / "leases").exists()
    assert not leftovers(tmp_path)


def test_a_killed_run_goes_on_within_its_cell(experiment, tmp_path):
    killed = start(experiment, tmp_path / "out", "--only", "bits=8,backend=quanto")
    parts = tmp_path / "out" / "shared" / "parts"
    until = time.monotonic() + 120
    while len(list(parts.glob("*/*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = {path.parent.name: path.stat().st_mtime_ns for path in parts.glob("*/00000-*.json")}
    assert before
    stopped = start(experiment, tmp_path / "out", "--only", "bits=8,backend=quanto")
    while len(list(parts.glob("*/*.json"))) < 5 and stopped.poll() is None:
        time.sleep(0.01)
    kept = {path.parent.name: path.stat().st_mtime_ns for path in parts.glob("*/00000-*.json")}
    assert before.items() <= kept.items(), "the first batch was not done again"
    stopped.send_signal(signal.SIGTERM)
    output, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, errors
    assert "the same command does the rest" in output
    last = start(experiment, tmp_path / "out")
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert not parts.exists()
    assert not leftovers(tmp_path)
    alone = start(experiment, tmp_path / "alone")
    alone.communicate(timeout=300)
    assert transcripts(tmp_path / "out") == transcripts(tmp_path / "alone")
