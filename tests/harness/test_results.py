"""Rows of the results: every cell against its twin, adjusted over the whole experiment."""

import pandas
import pytest

from tests.harness.runs import PLANNED, write_run

STATISTICS = (
    "wer_low wer_high twin_cell_id identical difference difference_low difference_high p_permutation p_holm relative "
    "relative_low relative_high non_inferior detectable mapsswe_segments mapsswe_z mapsswe_p blocked_by blocks"
).split()


def errors(configuration, split, speaker, number):
    """Full precision and bf16 alike; int2 everywhere wrong; int3 worse by a word; the static scheme failed."""
    if configuration.spec.scheme == "static":
        return None
    base = speaker % 4 + number % 2 + (2 if split == "other" else 0)
    return base + {2: 12, 3: 1}.get(configuration.spec.bits, int(configuration.spec.bits == 4 and number == speaker))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), errors)


@pytest.fixture(scope="module")
def results(study):
    return pandas.read_parquet(study._run.path / "results.parquet").set_index("cell_id")


def test_every_planned_cell_is_a_row_with_the_columns_of_the_statistics(results):
    assert len(results) == 2 * len(PLANNED)
    assert set(STATISTICS) <= set(results.columns)


def test_full_precision_has_an_interval_and_nothing_to_be_compared_with(results):
    own = results[results["backend"] == "none"]
    assert (own["wer_low"] < own["wer"]).all()
    assert (own["wer"] < own["wer_high"]).all()
    assert own["difference"].isna().all()


def test_the_twin_is_of_the_same_split(results):
    for _, row in results[results["twin_cell_id"].notna()].iterrows():
        twin = results.loc[row["twin_cell_id"]]
        assert (twin["backend"], twin["split"]) == ("none", row["split"])
        assert row["difference"] == pytest.approx(row["wer"] - twin["wer"])


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
    assert study.against_twins == {}
    assert study.outcomes == []
    assert all(row["wer_low"] is not None for row in study.rows)
