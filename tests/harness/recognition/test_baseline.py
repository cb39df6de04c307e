"""What a cell takes from its baseline's: at once where that is finished, batch by batch while it is decoded."""

import threading

import pytest
import torch

from harness.recognition import baseline as baseline_module
from harness.recognition.baseline import Baseline
from harness.recognition.likelihood import Answers, save_answers
from harness.records.layout import LEASES, CellRecord
from harness.records.leases import Leases
from harness.records.parts import Part, Parts
from harness.records.recording import RunDirectory

CELL = "c0123456789abcde"
PART = Part([], [], {}, 0, False)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def answers(*names):
    return {name: Answers(torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3)) for name in names}


def keep(run, index, *names):
    parts = Parts(run.path, CELL)
    parts.save_answers(index, lambda path: save_answers(path, answers(*names)))
    parts.save(index, PART)


def finish(run, status="done"):
    cell = {"cell_id": CELL, "status": status, "prompt": [7], "identity": {}}
    rows = [{"id": "a", "tokens": [7, 1, 2], "error": None}, {"id": "b", "tokens": [7, 3], "error": "broken"}]
    path = run.path / "file"
    save_answers(path, answers("a", "b"))
    run.write(CellRecord(CELL, cell, rows, answers=path.read_bytes()))


def test_of_a_finished_cell_all_is_there(run):
    finish(run)
    baseline = Baseline(run.path, CELL, lambda: pytest.fail("there is nothing to wait for"))
    assert baseline.transcripts() == {"a": [1, 2], "b": [3]}
    assert list(baseline.answers(5, ["b", "nobody"])) == ["b"]


@pytest.mark.parametrize("cell", [None, CELL])
def test_without_one_nothing_is_waited_for(run, cell):
    baseline = Baseline(run.path, cell, lambda: pytest.fail("there is nothing to wait for"))
    assert baseline.transcripts() == {}
    assert baseline.answers(0, ["a"]) == {}


def test_one_that_failed_has_nothing(run):
    finish(run, "failed")
    assert Baseline(run.path, CELL, lambda: pytest.fail("it is over")).transcripts() == {}


def test_one_that_failed_and_is_done_again_is_waited_for(run):
    finish(run, "failed")
    with Leases(run.path / LEASES, 60) as leases:
        leases.acquire(CELL)
        keep(run, 0, "a")
        assert list(Baseline(run.path, CELL, lambda: None).answers(0, ["a"])) == ["a"]
        threading.Timer(0.5, finish, (run,)).start()
        assert Baseline(run.path, CELL, lambda: None).transcripts() == {"a": [1, 2], "b": [3]}


def test_who_shows_no_progress_is_given_up_once(run, monkeypatch):
    monkeypatch.setattr(baseline_module, "_PATIENCE", 0.5)
    with Leases(run.path / LEASES, 60) as leases:
        leases.acquire(CELL)
        baseline = Baseline(run.path, CELL, lambda: None)
        assert [baseline.answers(index, ["a"]) for index in range(5)] == [{}] * 5
        assert baseline.waited < 2


def test_batches_are_taken_while_the_cell_is_decoded(run):
    waited = []
    with Leases(run.path / LEASES, 60) as leases:
        assert leases.acquire(CELL)
        keep(run, 0, "a")
        baseline = Baseline(run.path, CELL, lambda: waited.append(1))
        assert list(baseline.answers(0, ["a"])) == ["a"]
        assert not waited
        later = threading.Timer(0.5, keep, (run, 1, "b"))
        later.start()
        assert list(baseline.answers(1, ["b"])) == ["b"]
        assert waited
        threading.Timer(0.5, finish, (run,)).start()
        assert baseline.transcripts() == {"a": [1, 2], "b": [3]}


def test_who_gives_up_is_not_waited_for(run):
    with Leases(run.path / LEASES, 60) as leases:
        leases.acquire(CELL)
        threading.Timer(0.5, leases.release, (CELL,)).start()
        assert Baseline(run.path, CELL, lambda: None).answers(0, ["a"]) == {}
