"""Published runs are read: what they say is what the run says, wherever they are."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import compare, figures, grid, verify
from harness.errors import OutputError
from harness.execution.takeover import take_over
from harness.experiment.cell import Cell
from harness.experiment.planned import planned_cells
from harness.records.asked import recorded_experiment
from harness.records.files import checksums, read_json, write_json
from harness.records.published import CHECKSUMS, PublishedRun
from harness.records.reading import missing, open_run
from harness.records.recording import RunDirectory
from harness.records.results import result_rows
from harness.records.store import StoredRun
from harness.report.__main__ import main as write_page
from tests.harness.publications import TWO_BITS, at

LACKING = f"unfinished: 2 of 6 planned cells have no record: {TWO_BITS} on clean, other"


def same_but_for_paths(own, theirs, names=("configuration_id", "model", "reason", "error")):
    """Rows or documents that differ in nothing else than how a local model is called."""
    assert set(own) == set(theirs)
    assert {k: v for k, v in own.items() if k not in names} == {k: v for k, v in theirs.items() if k not in names}
    return True


def test_what_is_published_is_what_the_run_says(whole_run):
    run, published = map(open_run, whole_run)
    assert (type(run), type(published)) == (StoredRun, PublishedRun)
    assert len(run.results()) == 6
    assert missing(run) == missing(published) == []
    for own, theirs in zip(run.results(), published.results(), strict=True):
        assert same_but_for_paths(own, theirs)
        assert list(own) == list(theirs)
        cell = own["cell_id"]
        assert same_but_for_paths(run.finished(cell), published.finished(cell))
        assert run.utterances(cell) == published.utterances(cell)
        assert [list(row) for row in run.utterances(cell)] == [list(row) for row in published.utterances(cell)]
        for row, other in zip(run.undecodable(cell), published.undecodable(cell), strict=True):
            assert same_but_for_paths(row, other)
        assert run.layers(cell) == published.layers(cell)
        assert run.operations(cell) == published.operations(cell)
        assert same_but_for_paths(run.environment(cell), published.environment(cell), names=("command",))
        assert published.stamp(cell)
    assert [same_but_for_paths(*pair) for pair in zip(run.analyses(), published.analyses(), strict=True)] == [True]
    assert published.latency()["rows"][0]["ratio_median"] == 0.5
    assert sum(len(published.undecodable(row["cell_id"])) for row in published.results()) == 3


def test_results_follow_from_what_is_published_as_from_the_run(whole_run):
    rows = []
    for path in whole_run:
        run = open_run(path)
        ids = {at(row): row["cell_id"] for row in run.results()}
        cells = [Cell(c, data, {}, ids[c.id, data.label], ()) for c, data in planned_cells(recorded_experiment(run))]
        rows.append(result_rows(run, cells))
        assert rows[-1][0]["wer"] is not None
    assert all(same_but_for_paths(*pair) for pair in zip(*rows, strict=True))


@pytest.mark.parametrize("name", ["utterances.parquet", "cells.parquet", "experiment.json", "LICENCE.txt"])
def test_a_flipped_bit_is_named(copied_run, name, capsys):
    content = bytearray((copied_run / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied_run / name).write_bytes(content)
    with pytest.raises(OutputError, match=rf"{name}: it is not what was written"):
        open_run(copied_run)
    assert verify.main([str(copied_run)]) == 1
    assert f"{name}: it is not what was written" in capsys.readouterr().out


def test_a_newer_version_is_refused_in_one_sentence(copied_run, capsys):
    write_json(copied_run / "published.json", read_json(copied_run / "published.json") | {"format": 2})
    assert write_page([str(copied_run)]) == 2
    said = capsys.readouterr().err
    assert "published.json: it has format 2, and this version of asrquant reads up to 1" in said
    assert said.count("\n") == 1


def test_an_unfinished_run_names_what_is_missing(unfinished_run, tmp_path, capsys):
    for path in unfinished_run:
        assert write_page([str(path), "--out", str(tmp_path / "page.html")]) == 0
        assert LACKING in capsys.readouterr().out
        assert LACKING in (tmp_path / "page.html").read_text()
        assert verify.main([str(path), "--again", "0"]) == 0
        assert LACKING in capsys.readouterr().out
    assert [place.configuration for place in missing(open_run(unfinished_run[1]))] == [TWO_BITS] * 2


def test_going_on_does_only_the_rest(unfinished_run, whole_run, published_root, tmp_path, capsys):
    """Full precision is done again where others are compared with it; then all is there."""
    run = StoredRun(whole_run[0])
    taken = {row["bits"] for row in run.results() if "taken_over_from" in run.environment(row["cell_id"])}
    assert taken == {4}
    before = {row["cell_id"]: row["wer"] for row in StoredRun(unfinished_run[0]).results()}
    after = {row["cell_id"]: row["wer"] for row in run.results()}
    assert before.items() < after.items()
    assert grid.main([str(published_root / "small.toml"), "--out", str(tmp_path), "--from", str(whole_run[1])]) == 0
    said = capsys.readouterr().out
    assert "6 finished cells taken over" in said
    assert "cells to do" not in said
    third = StoredRun(tmp_path / "small")
    assert [row["wer"] for row in third.results()] == [row["wer"] for row in run.results()]
    assert verify.main([str(third.path), "--again", "1"]) == 0


def test_cells_that_were_not_planned_are_not_used_and_it_says_why(whole_run, tmp_path):
    run = open_run(whole_run[1])
    cells = [
        Cell(c, data, {**content["identity"], "machine": "vax"}, "0" * 16, ())
        for c, data in planned_cells(recorded_experiment(run))
        for row in run.results()
        if at(row) == (c.id, data.label) and (content := run.finished(row["cell_id"]))
    ]
    found = take_over(run, cells[1:], cells[1:], RunDirectory(tmp_path))
    assert (found.taken, found.strange) == (0, 6)
    machine = run.finished(run.results()[0]["cell_id"])["identity"]["machine"]
    assert found.reasons == ("the plan has no such cell", f"machine is {machine} there and vax here")
    assert "6 cells not used" in list(found.sentences("x"))[-1]


def test_what_is_not_published_cannot_be_gone_on_from(published_root, unfinished_run, capsys):
    assert grid.main([str(published_root / "small.toml"), "--from", str(unfinished_run[0])]) == 2
    assert "is not a published run" in capsys.readouterr().err


def test_verify_checks_what_there_is_and_says_what_there_is_not(whole_run, capsys):
    assert verify.main([str(whole_run[1])]) == 0
    said = capsys.readouterr().out
    assert "models and speech were not looked at" in said
    assert "6 cells, 0 batches transcribed again: all as recorded" in said


def seal(directory):
    names = sorted(path for path in directory.iterdir() if path.name != CHECKSUMS)
    (directory / CHECKSUMS).write_text(checksums(names))


def change(path, alter):
    table = pq.read_table(path)
    rows = table.to_pylist()
    alter(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    seal(path.parent)


def worse(rows):
    rows[-1]["hypothesis"] = "NOT THIS"


def other_seed(rows):
    document = json.loads(rows[0]["document"])
    document["identity"]["seed"] += 1
    rows[0]["document"] = json.dumps(document)


def better(rows):
    rows[-1]["wer"] /= 2


@pytest.mark.parametrize(
    ("name", "alter", "sentence"),
    [
        ("utterances", worse, "wer"),
        ("cells", other_seed, "its identity does not have this id"),
        ("results", better, "wer differ"),
    ],
)
def test_verify_finds_what_was_changed_under_new_checksums(copied_run, capsys, name, alter, sentence):
    change(copied_run / f"{name}.parquet", alter)
    assert verify.main([str(copied_run)]) == 1
    assert sentence in capsys.readouterr().out


def test_figures_and_comparisons_are_the_runs(whole_run, tmp_path, capsys):
    names = []
    for path in whole_run:
        assert figures.main([str(path), "--out", str(tmp_path / path.name)]) == 0
        names.append({figure.name: figure.read_bytes() for figure in (tmp_path / path.name).glob("*.png")})
        capsys.readouterr()
        assert compare.main([str(path), "full precision float32 @ clean", f"{TWO_BITS} @ clean", "--json"]) == 0
        names.append(json.loads(capsys.readouterr().out))
    assert list(names[0]) == list(names[2])
    assert names[0]
    assert names[1] == names[3]


def test_files_that_are_made_of_it_do_not_go_into_it(copied_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in copied_run.iterdir())
    assert write_page([str(copied_run)]) == 0
    assert capsys.readouterr().out == "runs/published/copied/report.html\n"
    assert figures.main([str(copied_run)]) == 0
    assert list(Path("runs/published/copied/figures").glob("*.svg"))
    assert sorted(path.name for path in copied_run.iterdir()) == before
