"""The contract of engines, held by each of them: real processes, a real Ray cluster on loopback."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.core import registry
from harness.execution.engines.local import LocalEngine
from harness.execution.task import CellDone, Ended, Phase, Progress, Task, Unwritable
from harness.experiment.cell import CellStatus
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Run
from harness.records.layout import PARTS
from harness.records.recording import RunDirectory
from harness.records.store import StoredRun
from harness.resolution.identity import cells_of, resolve
from tests.harness.clusters import LOOPBACK, WITHOUT_RAY, cluster
from tests.harness.faults import CRASHES, HANGS, NO_MEMORY, RAISES, REFUSES, WORKS, install
from tests.harness.runs import as_asked

UTTERANCES = 4
EXPERIMENT = f"""
name = "engines"
model = "embedded"
data = [{{ dataset = "embedded", split = "clean", limit = {UTTERANCES} }}]
decoding = {{ batch_size = 1, max_new_tokens = 40 }}
run = {{ device = "cpu" }}
[[grid]]
backend = "faulty"
bits = [8, 7, 6, 5, 4, 3]
"""
PATIENCE = 300.0


class Workbench:
    """Engines of one kind, and tasks for them."""

    def __init__(self, directory: Path, pid: Path, address: str | None) -> None:
        self.pid, self._address, self._root = pid, address, directory
        file = directory / "engines.toml"
        file.write_text(EXPERIMENT)
        self._experiment = load_experiment(file)

    def task(self, bits: int, run: str = "run") -> Task:
        directory = RunDirectory(self._root / run)
        planned = [c for c in configurations(self._experiment) if c.spec.bits == bits]
        resolved = resolve(self._experiment, planned, as_asked)
        (configuration,) = planned
        found = resolved.models[configuration.model].directory
        return Task.of(cells_of(configuration, self._experiment, resolved), self._experiment, found, directory.path)

    def engine(self, stall_timeout: float = PATIENCE):
        if self._address is None:
            return LocalEngine(1, 1, stall_timeout)
        from harness.execution.engines.ray import RayEngine

        run = Run(address=self._address, workers=1, stall_timeout=stall_timeout)
        return RayEngine(run, RunDirectory(self._root / "run"))


@contextmanager
def plugged_in(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        for key, value in LOOPBACK.items():
            patch.setenv(key, value)
        registry._plugged_in.cache_clear()
        yield
    registry._plugged_in.cache_clear()
    registry.get.cache_clear()


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=[WITHOUT_RAY, pytest.mark.slow])])
def workbench(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    pid = install(root / "plugin")
    with plugged_in(root / "plugin"):
        if request.param == "local":
            yield Workbench(root, pid, None)
            return
        with cluster(1, root / "plugin") as nodes:
            yield Workbench(root, pid, nodes.address)


def until(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    assert condition()


def events_of(engine, until_idle=lambda: False):
    """All events until the engine is idle, or until a condition holds."""
    found, end = [], time.monotonic() + PATIENCE
    while engine.busy() and not until_idle() and time.monotonic() < end:
        found += engine.events(0.5)
    return found


@pytest.fixture(scope="module")
def outcomes(workbench):
    """By the number of bits, the events of a task that ends by itself; then those of one that cannot write."""
    tasks = {bits: workbench.task(bits) for bits in (WORKS, CRASHES, RAISES, NO_MEMORY, REFUSES)}
    tasks["unwritable"] = workbench.task(WORKS, "unwritable")
    (tasks["unwritable"].run_directory / PARTS).symlink_to("nowhere")
    found = {}
    with workbench.engine() as engine:
        for key, task in tasks.items():
            assert engine.has_room()
            engine.submit(task)
            assert engine.busy()
            assert not engine.has_room()
            told = events_of(engine)
            assert all(whose is task for whose, _ in told)
            found[key] = [event for _, event in told]
    return found


def test_a_task_reports_progress_cells_and_its_end(workbench, outcomes):
    quantizing, transcribing, *before, done, end = outcomes[WORKS]
    task = workbench.task(WORKS)
    assert quantizing == Phase("quantizing")
    assert transcribing == Phase(task.cells[0].data.label, UTTERANCES)
    assert before == [Progress(1)] * UTTERANCES
    assert done == CellDone(task.cells[0].cell_id)
    assert end == Ended(CellStatus.DONE, "")
    assert len(StoredRun(task.run_directory).utterances(done.cell_id)) == UTTERANCES


@pytest.mark.parametrize(
    ("bits", "status", "words"),
    [
        (CRASHES, CellStatus.FAILED, "the worker ended with signal SIGSEGV and no message"),
        (RAISES, CellStatus.FAILED, "RuntimeError: a library's own mistake\nTraceback"),
        (NO_MEMORY, CellStatus.OUT_OF_MEMORY, "not enough memory: no room"),
        (REFUSES, CellStatus.UNSUPPORTED, "not this one"),
    ],
)
def test_what_goes_wrong_costs_one_task_and_is_its_last_event(outcomes, bits, status, words):
    phase, end = outcomes[bits]
    assert phase == Phase("quantizing")
    assert end.status is status
    assert end.reason.startswith(words)


def test_results_that_cannot_be_kept_are_told(outcomes):
    told = outcomes["unwritable"][2]
    assert isinstance(told, Unwritable)
    assert f"/{PARTS}/" in told.reason


def test_a_task_that_hangs_is_ended(workbench):
    with workbench.engine(stall_timeout=15.0) as engine:
        engine.submit(workbench.task(HANGS))
        *_, (_, end) = events_of(engine)
    assert end.status is CellStatus.TIMED_OUT
    assert "no batch was finished for 15 s (run.stall_timeout)" in end.reason


def test_stopping_keeps_the_present_batch(workbench):
    task = workbench.task(WORKS, "stopped")
    with workbench.engine() as engine:
        engine.submit(task)
        seen = []
        while not seen:
            seen += [told for told in engine.events(0.5) if isinstance(told[1], Progress)]
        engine.stop()
        seen += events_of(engine)
        assert not engine.busy()
    assert {type(event) for _, event in seen} == {Progress}
    parts = list((task.run_directory / PARTS / task.cells[0].cell_id).glob("*.json"))
    assert len(seen) <= len(parts) < UTTERANCES


def test_nothing_lives_on_when_it_is_left(workbench):
    workbench.pid.unlink(missing_ok=True)
    with workbench.engine() as engine:
        engine.submit(workbench.task(HANGS))
        events_of(engine, workbench.pid.exists)
        until(workbench.pid.read_text)
    process = Path("/proc") / workbench.pid.read_text()
    until(lambda: not process.exists(), 30.0)


def test_it_says_how_many_at_a_time(workbench):
    with workbench.engine() as engine:
        assert engine.describe().endswith("1 at a time")
