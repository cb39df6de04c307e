"""The grid on a real Ray cluster of one head and three nodes on loopback: what is lost on the way costs no digit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pandas
import pytest

from harness.errors import ConfigError
from harness.execution.preparation import engine_of
from harness.execution.task import CellDone, Ended, Task
from harness.experiment.config import load_experiment
from harness.experiment.plan import baseline_of, configurations
from harness.experiment.tables import Run
from harness.grid import main
from harness.records.recording import RunDirectory
from harness.records.store import StoredRun
from harness.resolution.identity import cells_of, resolve
from tests.harness.clusters import LOOPBACK, ROOT, WITHOUT_RAY, cluster, work_without_sharing
from tests.harness.runs import as_asked

pytestmark = [WITHOUT_RAY, pytest.mark.slow]

EXPERIMENT = """
name = "small"
model = "embedded"
decoding = { batch_size = 2, max_new_tokens = 40 }
calibration = { data = { dataset = "embedded", split = "calibration" }, utterances = 8 }
run = { device = "cpu", workers = 2 }
[[data]]
dataset = "embedded"
split = "clean"
limit = 6
[[data]]
dataset = "embedded"
split = "other"
limit = 4
[[grid]]
backend = "torch_static"
scheme = "static"
bits = 8
options.torch_static.reduce_range = true # on any processor
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = 4
"""
CELLS = 2 * 3


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("ray") / "small.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def local(file):
    """What processes of this machine hear."""
    assert main([str(file), "--out", str(file.parent / "local")]) == 0
    return file.parent / "local" / "small"


@pytest.fixture(scope="module")
def nodes():
    with cluster(3) as found:
        yield found


@contextmanager
def driver(file, nodes, out):
    """The command line in a process of its own, which is over with the block."""
    address = f'run.address="{nodes.address}"'
    command = [sys.executable, "-m", "harness.grid", str(file), "--out", str(out), "--engine", "ray", "--set", address]
    environment = {**os.environ, **LOOPBACK}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(pattern, run, process, seconds=300):
    until = time.monotonic() + seconds
    while not list((run / "small").glob(pattern)) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert list((run / "small").glob(pattern)), process.communicate(timeout=30)[0].decode()


def finished(process):
    said = process.communicate(timeout=400)[0].decode()
    assert process.returncode == 0, said
    return said


def assert_same(run, local):
    """Every table of utterances holds the same bytes."""
    cells = sorted(path.parent.name for path in (local / "cells").glob("*/DONE"))
    assert len(cells) == CELLS
    assert cells == sorted(path.parent.name for path in (run / "cells").glob("*/DONE"))
    for cell in cells:
        ours, theirs = (pandas.read_parquet(r / "cells" / cell / "utterances.parquet") for r in (run, local))
        assert ours.equals(theirs)


def test_a_node_that_is_lost_costs_no_digit(file, local, nodes, tmp_path):
    with driver(file, nodes, tmp_path) as process:
        wait_for("parts/*/*.json", tmp_path, process)
        busy = next(node for node in nodes.worker_nodes if _works(node))
        nodes.remove_node(busy, allow_graceful=False)
        said = finished(process)
    assert "on 4 nodes of Ray, 2 at a time" in said
    assert_same(tmp_path / "small", local)


def _works(node):
    """Whether a Ray worker of this node does a task: its process is called after it."""
    raylet = next(iter(node.all_processes["raylet"])).process.pid
    children = subprocess.run(["ps", "-o", "args=", "--ppid", str(raylet)], capture_output=True, text=True).stdout
    return "ray::on_node" in children


def test_a_driver_that_is_killed_is_started_again(file, local, nodes, tmp_path):
    with driver(file, nodes, tmp_path) as first:
        wait_for("cells/*/DONE", tmp_path, first)
        first.send_signal(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "small" / "cells").glob("*/DONE")}
    with driver(file, nodes, tmp_path) as second:
        finished(second)
    assert_same(tmp_path / "small", local)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not [path for path in (tmp_path / "small").rglob(".*") if path.name != ".lock"]


def test_cells_come_back_from_nodes_that_do_not_share_the_directory(file, local, nodes, tmp_path, monkeypatch):
    from harness.execution.engines.ray import RayEngine

    for key, value in LOOPBACK.items():
        monkeypatch.setenv(key, value)
    experiment = load_experiment(file)
    planned = configurations(experiment)
    directory = RunDirectory(tmp_path / "small")
    resolved = resolve(experiment, planned, as_asked)
    quantized = next(c for c in planned if c.backend == "hqq")
    own, baselines = (cells_of(c, experiment, resolved) for c in (quantized, baseline_of(quantized)))
    for cell in baselines:
        shutil.copytree(local / "cells" / cell.cell_id, directory.cells / cell.cell_id)
    drafts = {cell.cell_id: baseline.cell_id for cell, baseline in zip(own, baselines, strict=True)}
    model = resolved.models[quantized.model].directory
    events = []
    with RayEngine(Run(address=nodes.address), directory, work_without_sharing) as engine:
        engine.submit(Task.of(own, experiment, model, directory.path, alone=False, baselines=drafts))
        while engine.busy():
            events += [event for _, event in engine.events(1.0)]
    assert [type(event) for event in events if isinstance(event, CellDone | Ended)] == [CellDone, CellDone, Ended]
    for cell in own:
        assert directory.damage(cell.cell_id) is None
        assert directory.utterances(cell.cell_id) == StoredRun(local).utterances(cell.cell_id)
        assert directory.finished(cell.cell_id)["measured"]["drafted"] > 0


def test_an_address_where_nobody_answers_is_a_sentence(tmp_path):
    from harness.execution.engines.ray import RayEngine

    engine = RayEngine(Run(address="127.0.0.1:9"), RunDirectory(tmp_path))
    with pytest.raises(ConfigError, match=r"run\.address '127\.0\.0\.1:9': nobody answers there"):
        engine.__enter__()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".shared")]


def test_without_ray_it_says_how_to_get_it(file, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.execution.preparation.find_spec", lambda name: None)
    experiment = load_experiment(file, ['run.engine="ray"'])
    with pytest.raises(ConfigError, match=r'pip install "\.\[ray\]"'):
        engine_of(experiment, 1, RunDirectory(tmp_path))
