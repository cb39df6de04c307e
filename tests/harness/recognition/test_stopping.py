"""Hopeless cells end early, others do not; without the wish they go on where they were."""

from pathlib import Path

import pytest

from harness import grid
from harness.experiment.config import load_experiment
from harness.records.reading import open_run, study_of
from harness.report.charts import size_vs_wer

EXPERIMENT = """
name = "hopeless"
model = "embedded"
data = [{{ dataset = "embedded", split = "clean", limit = 48 }}]
decoding = {{ batch_size = 4, max_new_tokens = 40, batches = "{batches}" }}
run = {{ device = "cpu"{stop} }}
[[grid]]
backend = "quanto"
bits = 8
[[grid]]
backend = "hqq"
granularity = "per_channel"
bits = 1
"""


def run(root, stop=", stop = { worse_by = 10.0 }", batches="speakers"):
    path = root / "hopeless.toml"
    path.write_text(EXPERIMENT.format(batches=batches, stop=stop))
    return grid.main([str(path), "--out", str(root)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("hopeless")


@pytest.fixture(scope="module")
def stopped(root):
    assert run(root) == 0
    return {row["backend"]: row for row in open_run(root / "hopeless").results()}


def test_what_is_hopeless_is_stopped_and_nothing_else(stopped):
    assert {backend: row["status"] for backend, row in stopped.items()} == {
        "none": "done",
        "quanto": "done",
        "hqq": "stopped",
    }
    row = stopped["hqq"]
    assert 8 <= row["utterances"] < 48
    assert "stopped after" in row["reason"]
    assert row["wer_low"] < row["wer"] < row["wer_high"]
    assert row["difference"] is None
    assert stopped["quanto"]["utterances"] == 48


def test_it_is_drawn_open_and_compared_with_nothing(stopped, root):
    study = study_of(open_run(root / "hopeless"))
    assert [row["backend"] for row in study.stopped] == ["hqq"]
    assert all(row["backend"] != "hqq" for row in study.rows)
    figure = size_vs_wer(study)
    assert sum(line.get_fillstyle() == "none" for line in figure.axes[0].lines) == 1


@pytest.mark.slow
def test_a_second_run_leaves_it_and_one_without_stops_goes_on(stopped, root):
    first = open_run(root / "hopeless").utterances(stopped["hqq"]["cell_id"])
    stamp = open_run(root / "hopeless").stamp(stopped["hqq"]["cell_id"])
    assert run(root) == 0
    assert open_run(root / "hopeless").stamp(stopped["hqq"]["cell_id"]) == stamp
    assert run(root, stop="") == 0
    again = open_run(root / "hopeless")
    rows = {row["backend"]: row for row in again.results()}
    assert (rows["hqq"]["status"], rows["hqq"]["utterances"]) == ("done", 48)
    assert rows["hqq"]["cell_id"] == stopped["hqq"]["cell_id"]
    before, after = ({u["id"]: u["tokens"] for u in own} for own in (first, again.utterances(rows["hqq"]["cell_id"])))
    assert before.items() <= after.items()


def test_it_needs_whole_speakers(tmp_path, capsys):
    assert run(tmp_path, batches="length") == 2
    assert 'it needs decoding.batches = "speakers"' in capsys.readouterr().err


def test_batches_by_length_change_no_id():
    by_length, usual = (
        load_experiment(Path("experiments/embedded.toml"), sets) for sets in (['decoding.batches="length"'], [])
    )
    assert by_length == usual
