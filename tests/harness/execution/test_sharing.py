"""Runners that share a directory, and runs that go on where a killed one was."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.records.store import StoredRun

pytestmark = pytest.mark.slow

EXPERIMENT = """
name = "shared"
model = "embedded"
data = [{ dataset = "embedded", split = "clean", limit = 16 }]
decoding = { batch_size = 2, max_new_tokens = 40 }
run = { device = "cpu", workers = 1 }
[[grid]]
backend = ["quanto", "hqq"]
bits = [8, 4]
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "shared.toml"
    path.write_text(EXPERIMENT)
    return path


def runner(experiment, out, *options, temporary=None):
    command = [sys.executable, "-m", "harness.grid", str(experiment), "--out", str(out), *options]
    environment = {**os.environ, **({"TMPDIR": temporary} if temporary else {})}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def start(experiment):
    """Starts a runner; what it leaves among the temporary files is found when the test ends."""
    with tempfile.TemporaryDirectory() as temporary:
        yield partial(runner, experiment, temporary=temporary)
        assert not list(Path(temporary).iterdir())


@pytest.fixture(scope="module")
def undisturbed(experiment):
    out = experiment.parent / "undisturbed"
    runner(experiment, out).communicate(timeout=300)
    return transcripts(out)


def transcripts(out):
    run = StoredRun(out / "shared")
    return {
        row["configuration"]: [(u["id"], u["hypothesis"], u["tokens"]) for u in run.utterances(row["cell_id"])]
        for row in run.results()
        if row["status"] == "done"
    }


def test_three_runners_do_everything_once(start, experiment, undisturbed, tmp_path):
    runners = [start(tmp_path / "together") for _ in range(3)]
    ended = [runner.communicate(timeout=300) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0], ended
    said = [output for output, _ in ended]
    done = Counter(label for text in said for label in re.findall(r" s  (.+) on clean: done in", text))
    planned = configurations(load_experiment(experiment))
    possible = {c.label for c in planned if type(c.capability).__name__ == "Supported"}
    assert done == Counter(possible)
    assert all("done by another runner" in text for text in said)
    assert transcripts(tmp_path / "together") == undisturbed
    assert not (tmp_path / "together" / "shared" / "leases").exists()


def test_a_killed_run_goes_on_within_its_cell(start, undisturbed, tmp_path):
    killed = start(tmp_path / "out", "--only", "bits=8,backend=quanto")
    parts = tmp_path / "out" / "shared" / "parts"
    until = time.monotonic() + 120
    while len(list(parts.glob("*/*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = {path.parent.name: path.stat().st_mtime_ns for path in parts.glob("*/00000-*.json")}
    assert before
    stopped = start(tmp_path / "out", "--only", "bits=8,backend=quanto")
    while len(list(parts.glob("*/*.json"))) < 5 and stopped.poll() is None:
        time.sleep(0.01)
    kept = {path.parent.name: path.stat().st_mtime_ns for path in parts.glob("*/00000-*.json")}
    assert before.items() <= kept.items(), "the first batch was not done again"
    stopped.send_signal(signal.SIGTERM)
    output, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, errors
    assert "the same command does the rest" in output
    last = start(tmp_path / "out")
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert not parts.exists()
    assert transcripts(tmp_path / "out") == undisturbed
