"""Segments and z against what NIST's own program says of real transcripts, and by hand."""

import math
import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import Scorer, align
from harness.records.transcripts import read_sample
from harness.stats import compare, matched_pairs, segments
from tests.conftest import REAL_DATA
from tests.harness.stats.samples import with_errors

FBAI = REAL_DATA / "scoring" / "fbai"
SYSTEMS = ("b1.rnnt_baseline", "b2.b1+nnlm", "s1.b1+db-rnnt.biasing_100")
ONE_ABOVE_THE_MINIMUM = ("test-other", "b2.b1+nnlm")


@pytest.fixture(scope="module")
def systems():
    if not FBAI.is_dir():
        pytest.skip("no scored transcripts in ../shared/data/scoring beside the repository")
    return {
        (split, name): read_sample(FBAI / f"{split}.ref.tsv", FBAI / f"{split}.{name}.tsv", Scorer("none"))
        for split in ("test-clean", "test-other")
        for name in SYSTEMS
    }


def nist(split):
    """Segments and z of every pair as `sc_stats -t mapsswe` printed them."""
    text = (REAL_DATA / "scoring" / "sctk" / f"{split}.mapsswe.txt").read_text()
    found = re.findall(r"MTCH_PR_RESULTS .*\(# segs: (\d+)\).*\(Z Stat: ([-\d.]+)\)", text)
    return [(int(count), float(z)) for count, z in found]


@pytest.mark.parametrize("split", ["test-clean", "test-other"])
def test_segments_and_z_are_nists(systems, split):
    expected = nist(split)
    assert len(expected) == 3
    for (one, other), (count, z) in zip(combinations(SYSTEMS, 2), expected, strict=True):
        found = matched_pairs(systems[split, one], systems[split, other])
        assert found.segments == count
        assert found.z == pytest.approx(z, abs=0.005)


@pytest.mark.parametrize("split", ["test-clean", "test-other"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_errors_are_the_published_ones(systems, split, name):
    line = next(x for x in (FBAI / f"{split}.{name}.tsv.result").read_text().splitlines() if x.startswith("WER"))
    published = {key: int(value) for key, value in re.findall(r"(ref_words|subs|ins|dels)=(\d+)", line)}
    total = systems[split, name].total
    assert total.reference == published["ref_words"]
    errors = published["subs"] + published["ins"] + published["dels"]
    assert total.errors == errors - ((split, name) == ONE_ABOVE_THE_MINIMUM)


def test_two_right_words_end_a_segment_and_one_does_not():
    assert segments("SCS", "CCC") == [(2, 0)]
    assert segments("SCCS", "CCCC") == [(1, 0), (1, 0)]
    assert segments("SCCS", "CCSC") == [(2, 1)]
    assert segments("CCC", "CCC") == []


def test_insertions_stand_before_the_next_word_and_at_the_end():
    assert segments("ICC", "CC") == [(1, 0)]
    assert segments("CCI", "CC") == [(1, 0)]
    assert segments("CICS", "CCC") == [(2, 0)]
    assert segments("", "II") == [(0, 2)]


def test_z_by_hand():
    a, b = with_errors({"1-a": 1, "1-b": 1, "2-a": 0}), with_errors({"1-a": 0, "1-b": 1, "2-a": 1})
    found = matched_pairs(a, b)
    assert (found.segments, found.mean, found.standard_deviation) == (3, 0.0, 1.0)
    a = with_errors({"1-a": 3, "1-b": 1, "2-a": 2})
    b = with_errors({"1-a": 1, "1-b": 0, "2-a": 2})
    assert matched_pairs(a, b).z == pytest.approx(1 / (1 / math.sqrt(3)))


@pytest.mark.parametrize("errors", [{"1-a": 0, "2-a": 0}, {"1-a": 1, "2-a": 1}, {"1-a": 1, "2-a": 0}])
def test_where_there_is_no_spread_there_is_no_z(errors):
    found = matched_pairs(with_errors(errors), with_errors(errors))
    assert found.segments == sum(errors.values())
    assert found.z is None
    assert found.p is None


words = st.lists(st.sampled_from("abc"), max_size=7)


@given(words, words)
def test_an_alignment_is_of_these_words_and_of_least_cost(reference, hypothesis):
    steps = align(reference, hypothesis)
    assert len(steps.replace("I", "")) == len(reference)
    assert len(steps.replace("D", "")) == len(hypothesis)
    cost = 4 * steps.count("S") + 3 * (steps.count("I") + steps.count("D"))
    assert cost == least_cost(tuple(reference), tuple(hypothesis))


def least_cost(reference, hypothesis):
    """2 for every pair of words, right or wrong, is saved over gaps alone, and 4 more for a right one."""
    best = {(0, 0): 0}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            saved = [best[i - 1, j]] if i else []
            saved += [best[i, j - 1]] if j else []
            if i and j:
                saved.append(best[i - 1, j - 1] + (6 if reference[i - 1] == hypothesis[j - 1] else 2))
            best[i, j] = max(saved, default=0)
    return 3 * (len(reference) + len(hypothesis)) - best[len(reference), len(hypothesis)]


def test_the_sign_is_the_first_less_the_second():
    worse, better = with_errors({"1-a": 3, "2-a": 2}), with_errors({"1-a": 0, "2-a": 1})
    comparison = compare(worse, better)
    assert comparison.mapsswe.mean > 0
    assert comparison.difference.wer > 0
