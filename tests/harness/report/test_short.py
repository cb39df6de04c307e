"""What the page says first: every sentence follows from rows."""

import pytest

from harness.report.findings import findings
from harness.report.short import in_short, unmeasured
from harness.stats import Study
from tests.harness.report.test_findings import base, errors
from tests.harness.runs import PLANNED, write_run


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), errors)


def test_a_sentence_for_every_decision(study):
    said = in_short(study)
    starts = ["If nothing may be lost: ", "At most half the size: ", "To be avoided: ", "This holds for "]
    assert [next(start for start in starts if sentence.startswith(start)) for sentence in said] == starts


def test_what_cannot_be_told_is_counted(tmp_path):
    def noisy(configuration, split, speaker, number):
        """Better for half of the speakers, and as much worse for the others."""
        return base(speaker, number) + (3 if speaker % 2 else -3) * (configuration.backend != "none")

    said = in_short(write_run(tmp_path, noisy, PLANNED[:3]))
    assert said[-2].startswith("Of 2 configurations 2 are neither")


def test_what_is_recommended_is_the_smallest_that_is_shown_to_be_as_good(study):
    good = {}
    for row in study.scored:
        if row["backend"] != "none":
            good.setdefault(row["configuration"], []).append(row)
    as_good = [rows for rows in good.values() if len(rows) == 2 and all(row["non_inferior"] for row in rows)]
    smallest = min(rows[0]["size_bytes"] for rows in as_good)
    assert f"({smallest / 1e6:.1f} MB, " in in_short(study)[0]
    assert any(rows[0]["configuration"] in in_short(study)[0] for rows in as_good)


def test_what_is_avoided_makes_more_than_two_and_a_half_times_the_errors(study):
    said = in_short(study)[2]
    bad = {row["configuration"] for row in study.scored if (row["relative"] or 0) > 1.5}
    assert bad
    assert all(
        name in bad for name in said.removeprefix("To be avoided: ").split(", with")[0].split(" and ")[0].split("; ")
    )


def test_where_nothing_is_shown_to_be_as_good_that_is_said(tmp_path):
    own = [c for c in PLANNED if c.backend == "none" or c.spec.bits in (2, 3)]
    said = in_short(write_run(tmp_path, errors, own))
    assert said[0].startswith("If nothing may be lost: full precision, since nothing here is shown to be as good")


def test_full_precision_alone_says_nothing(tmp_path):
    assert in_short(write_run(tmp_path, errors, PLANNED[:1])) == []


def test_speed_is_missing_until_it_is_timed(study):
    assert "harness.latency mine.toml --limit 9, with" in unmeasured(study, "mine.toml --limit 9")[0]
    timed = Study([{**row, "timed_rtfx": 20.0} for row in study.rows], study.sample)
    assert unmeasured(timed, "mine.toml") == []
    assert findings(timed)
