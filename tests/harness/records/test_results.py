"""Rows of the results: every cell against its baseline, adjusted over the whole experiment."""

import os
import threading
import time
from unittest import mock

import pandas
import pytest

from harness.experiment.cell import Cell
from harness.records import results as results_module
from harness.records.recording import RunDirectory
from harness.records.results import make_results, result_rows
from tests.harness.runs import EXPERIMENT, PLANNED, write_run

STATISTICS = (
    "wer_low wer_high baseline_cell_id identical utterances_changed errors_added difference difference_low "
    "difference_high p_permutation p_holm relative relative_low relative_high non_inferior detectable "
    "mapsswe_segments mapsswe_z mapsswe_p blocked_by blocks"
).split()


def errors(configuration, split, speaker, number):
    """Full precision and bf16 alike; int2 everywhere wrong; int3 worse by a word; the static scheme failed."""
    if configuration.spec.scheme == "static":
        return None
    base = speaker % 4 + number % 2 + (2 if split == "other" else 0)
    return base + {2: 12, 3: 1}.get(configuration.spec.bits, int(configuration.spec.bits == 4 and number == speaker))


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def study(run_directory):
    return write_run(run_directory, errors)


@pytest.fixture(scope="module")
def results(study, run_directory):
    return pandas.read_parquet(run_directory / "results.parquet").set_index("cell_id")


def test_every_planned_cell_is_a_row_with_the_columns_of_the_statistics(results):
    assert len(results) == 2 * len(PLANNED)
    assert set(STATISTICS) <= set(results.columns)


def test_full_precision_has_an_interval_and_nothing_to_be_compared_with(results):
    own = results[results["backend"] == "none"]
    assert (own["wer_low"] < own["wer"]).all()
    assert (own["wer"] < own["wer_high"]).all()
    assert own["difference"].isna().all()


def test_the_baseline_is_of_the_same_split(results):
    for _, row in results[results["baseline_cell_id"].notna()].iterrows():
        baseline = results.loc[row["baseline_cell_id"]]
        assert (baseline["backend"], baseline["split"]) == ("none", row["split"])
        assert row["difference"] == pytest.approx(row["wer"] - baseline["wer"])


def test_identical_cells_are_as_good_and_not_tested(results):
    own = results[results["backend"] == "cast"]
    assert own["identical"].all()
    assert own["non_inferior"].all()
    assert own["p_permutation"].isna().all()
    assert own["p_holm"].isna().all()


def test_what_is_worse_everywhere_is_found_and_adjusted(results):
    own = results[results["bits"] == 2]
    assert (own["p_permutation"] < 0.05).all()
    assert not own["non_inferior"].any()
    tested = results["p_permutation"].notna()
    assert (results[tested]["p_holm"] >= results[tested]["p_permutation"]).all()
    smallest = results[tested]["p_permutation"].min()
    assert results[tested]["p_holm"].min() == pytest.approx(min(1, smallest * tested.sum()))


def test_a_failed_cell_has_empty_statistics(results):
    own = results[results["status"] == "failed"]
    assert len(own) == 2 * sum(c.spec.scheme == "static" for c in PLANNED)
    assert own[STATISTICS].isna().all().all()


def test_a_run_without_full_precision_compares_nothing(tmp_path):
    alone = [c for c in PLANNED if c.backend == "hqq"]
    study = write_run(tmp_path, errors, alone)
    assert study.against_baselines == {}
    assert study.outcomes == []
    assert all(row["wer_low"] is not None for row in study.rows)


@pytest.fixture
def finished(tmp_path):
    """A run directory with all cells of two configurations, and those cells."""
    chosen = [PLANNED[0], next(c for c in PLANNED if c.backend == "quanto")]
    write_run(tmp_path, errors, chosen)
    cells = [Cell(c, data, {}, f"{c.id}-{data.split}", ()) for c in chosen for data in EXPERIMENT.data]
    return RunDirectory(tmp_path), cells


@pytest.fixture
def counted():
    """How often results are computed."""
    with mock.patch.object(results_module, "result_rows", side_effect=result_rows) as computing:
        yield computing


def test_of_runners_that_end_together_one_makes_the_results(finished, counted):
    directory, cells = finished
    directory.write_experiment({})
    made = []
    ending = [
        threading.Thread(target=lambda: made.append(make_results(RunDirectory(directory.path), cells))) for _ in "abc"
    ]
    for runner in ending:
        runner.start()
    for runner in ending:
        runner.join()
    assert counted.call_count == 1
    assert made == [directory.results()] * 3


@pytest.mark.parametrize("newer", ["experiment.json", "latency.json", "cell", "cells"])
def test_results_are_made_again_after_anything_that_they_are_made_of(finished, counted, newer):
    directory, cells = finished
    make_results(directory, cells)
    counted.reset_mock()
    if newer == "cell":
        os.utime(directory.cells / cells[1].cell_id / "DONE")
    elif newer == "cells":
        cells = cells[:2]
    else:
        directory.write_experiment({}) if newer == "experiment.json" else directory.write_latency({})
    assert [row["cell_id"] for row in make_results(directory, cells)] == [cell.cell_id for cell in cells]
    assert counted.call_count == 1


def test_who_makes_the_results_and_hangs_is_not_waited_for(finished, monkeypatch):
    directory, cells = finished
    monkeypatch.setattr("harness.records.locks._PAUSES", (0.0, 0.1))
    with directory.making_results():
        began = time.monotonic()
        assert make_results(RunDirectory(directory.path), cells)
        assert time.monotonic() - began < 60
