"""Runs that several files of tests read."""

import shutil

import pytest

from harness import grid, publish
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.cell import Cell
from harness.experiment.planned import planned_cells
from harness.records.asked import recorded_experiment
from harness.records.recording import RunDirectory
from harness.records.results import result_rows
from tests.harness.publications import EXPERIMENT, about, at, speech


@pytest.fixture(scope="session")
def published_root(tmp_path_factory):
    """Where these runs lie, with a model and speech of their own."""
    root = tmp_path_factory.mktemp("publish")
    shutil.copytree(MODEL_DIRECTORY, root / "some one's model")
    speech(root / "speech" / "clean", "clean", 7, broken=True)
    speech(root / "speech" / "calibration", "calibration", 2)
    (root / "small.toml").write_text(EXPERIMENT.format(root=root))
    return root


@pytest.fixture(scope="session")
def unfinished_run(published_root):
    """A run of which two cells are missing, and what is published of it."""
    run, place = published_root / "first" / "small", published_root / "published" / "unfinished"
    assert grid.main([str(published_root / "small.toml"), "--out", str(run.parent), "--only", "bits=4"]) == 0
    assert publish.main([str(run), str(place)]) == 0
    return run, place


@pytest.fixture(scope="session")
def whole_run(published_root, unfinished_run):
    """A run that went on from there elsewhere, with what else a run can have; and what is published of it."""
    run, place = published_root / "second" / "small", published_root / "published" / "whole"
    going_on = ["--out", str(run.parent), "--from", str(unfinished_run[1])]
    assert grid.main([str(published_root / "small.toml"), *going_on]) == 0
    directory = RunDirectory(run)
    row = next(row for row in directory.results() if row["bits"] == 4)
    directory.write_analysis(row["configuration_id"], about(row) | {"layers": [], "blocks": [], "parts": []})
    timed = about(row) | {"measure": "encoder", "status": "done", "reason": "", "ratio_median": 0.5, "threads": 1}
    directory.write_latency({"environment": {"command": f"x --out={published_root}"}, "decoding": {}, "rows": [timed]})
    cells = [
        Cell(c, data, {}, next(r["cell_id"] for r in directory.results() if at(r) == (c.id, data.label)), ())
        for c, data in planned_cells(recorded_experiment(directory))
    ]
    directory.write_results(result_rows(directory, cells))
    assert publish.main([str(run), str(place)]) == 0
    return run, place


@pytest.fixture
def copied_run(whole_run, tmp_path):
    """A published run to be altered."""
    return shutil.copytree(whole_run[1], tmp_path / "copied")
