"""Intervals, tests and their limits, on counts that can be checked by hand."""

import math

import numpy as np
import pytest

from harness.errors import DataError
from harness.stats import compare, difference, system
from harness.stats.paired import Changes, detectable
from harness.stats.resampling import interval, sign_flip_p
from tests.harness.stats.samples import sample, with_errors

TEN = [f"{speaker}-{n}" for speaker in range(10) for n in range(2)]


def test_rates_are_of_the_corpus_and_differences_are_the_first_less_the_second():
    a = with_errors(dict.fromkeys(TEN, 2))
    b = with_errors({name: int(name.endswith("0")) for name in TEN})
    found = compare(a, b)
    assert (found.a.wer, found.b.wer) == (0.2, 0.05)
    assert found.difference.wer == pytest.approx(0.15)
    assert found.difference.relative == pytest.approx(3.0)
    assert (found.blocked_by, found.blocks) == ("speaker", 10)
    assert found.difference.p_permutation == pytest.approx(2 / 2**10)


def test_a_rate_is_no_mean_of_rates():
    texts = {"1-a": ("one", "x"), "2-a": ("a b c d e f g h i", "a b c d e f g h i")}
    assert system(sample(texts)).wer == pytest.approx(0.1)


def test_identical_outputs_are_said_to_be_identical_and_not_tested():
    a = with_errors(dict.fromkeys(TEN, 1))
    found = compare(a, a)
    assert found.identical
    assert found.difference.wer == 0
    assert math.isnan(found.difference.p_permutation)
    assert math.isnan(found.difference.low)
    assert math.isnan(found.difference.detectable)


def test_other_words_with_as_many_errors_are_not_identical():
    a = sample(dict.fromkeys(TEN, ("one two three", "x two three")))
    b = sample(dict.fromkeys(TEN, ("one two three", "one y three")))
    found = compare(a, b)
    assert not found.identical
    assert (found.difference.low, found.difference.high) == (0, 0)
    assert found.difference.p_permutation == 1


def test_changes_are_counted_by_utterance_and_by_error():
    b = with_errors(dict.fromkeys(TEN, 1))
    a = with_errors({name: {"0-0": 3, "1-1": 0, "2-0": 2}.get(name, 1) for name in TEN})
    assert compare(a, b).changes == Changes(changed=3, worse=2, better=1, added=3, removed=1)
    assert compare(b, b).changes == Changes(0, 0, 0, 0, 0)


def test_five_speakers_cannot_reach_significance():
    worse = with_errors({f"{speaker}-0": 5 for speaker in range(5)})
    better = with_errors({f"{speaker}-0": 0 for speaker in range(5)})
    assert compare(worse, better).difference.p_permutation == pytest.approx(2 / 2**5)
    assert 2 / 2**5 > 0.05 > 2 / 2**6


@pytest.mark.parametrize("speakers", [{}, dict.fromkeys(TEN, "one")])
def test_without_two_speakers_utterances_are_resampled_and_that_is_said(speakers):
    texts = {name: ("one two", "one" if name.endswith("0") else "one two") for name in TEN}
    found = compare(sample(texts, speakers), sample({k: (r, r) for k, (r, _) in texts.items()}, speakers))
    assert (found.blocked_by, found.blocks) == ("utterance", 20)


def test_a_single_utterance_has_no_interval():
    found = compare(with_errors({"1-a": 2}), with_errors({"1-a": 1}))
    assert found.difference.wer == pytest.approx(0.1)
    assert math.isnan(found.difference.low)
    assert math.isnan(found.difference.p_permutation)
    assert not found.difference.non_inferior


def test_results_are_the_same_in_every_run():
    rng = np.random.default_rng(0)
    a, b = (np.stack([rng.poisson(5, 24), np.full(24, 100)], axis=1) for _ in range(2))
    assert difference(a, b) == difference(a, b)


def test_speakers_who_differ_widen_the_interval():
    """The same errors, spread over all utterances of a speaker or over all speakers."""
    by_one = {f"{s}-{u}": 4 * (s < 3) for s in range(12) for u in range(8)}
    by_all = {f"{s}-{u}": 4 * (u < 2) for s in range(12) for u in range(8)}
    assert sum(by_one.values()) == sum(by_all.values())
    wide, narrow = (system(with_errors(errors)) for errors in (by_one, by_all))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_the_interval_of_a_mean_is_nearly_students():
    values = np.random.default_rng(3).normal(5, 2, 30)
    found = interval([[values]], lambda i: values[i].mean(-1))
    error = values.std(ddof=1) / math.sqrt(30)
    assert found.standard_error == pytest.approx(error, rel=0.05)
    assert found.high - values.mean() == pytest.approx(2.045 * error, rel=0.1)
    assert values.mean() - found.low == pytest.approx(found.high - values.mean())


def test_the_permutation_test_is_exact_for_few_blocks():
    """Of the 16 ways to flip 3, 2, 1, 1 only two sums are as extreme as 7, and four as extreme as 5."""
    assert sign_flip_p(np.array([3, 2, 1, 1])) == pytest.approx(2 / 16)
    assert sign_flip_p(np.array([3, 2, 1, -1])) == pytest.approx(6 / 16)


def test_the_detectable_difference_is_found_in_four_studies_of_five():
    rng = np.random.default_rng(5)
    error = 1 / math.sqrt(40)
    shift = detectable(error, 40)
    draws = rng.normal(shift, 1, (4000, 40))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(40))
    assert (t > 2.0227).mean() == pytest.approx(0.8, abs=0.03)


def test_as_good_as_needs_the_whole_interval_under_the_margin():
    words = 120
    errors = {f"{s}-{u}": 20 for s in range(12) for u in range(2)}
    base = with_errors(errors, words)
    slightly = with_errors({k: n + (k == "0-0") for k, n in errors.items()}, words)
    much = with_errors({k: n + 2 * int(k.endswith("1")) for k, n in errors.items()}, words)
    assert compare(slightly, base).difference.non_inferior
    assert not compare(much, base).difference.non_inferior


def test_a_baseline_without_errors_has_no_relative_change():
    a, b = with_errors({name: int(name[0] == "3") for name in TEN}), with_errors(dict.fromkeys(TEN, 0))
    found = compare(a, b).difference
    assert found.wer > 0
    assert math.isinf(found.relative)
    assert not found.non_inferior
    assert not math.isfinite(found.relative_high)


def test_two_speakers_who_differ_are_too_few_to_say_what_could_be_detected():
    base = with_errors(dict.fromkeys(TEN, 2))
    few = with_errors({name: 2 + (name in ("0-0", "1-0")) for name in TEN})
    many = with_errors({name: 2 + (name.endswith("0") and name > "2") for name in TEN})
    assert math.isnan(compare(few, base).difference.detectable)
    assert compare(many, base).difference.detectable > 0


def test_relative_and_absolute_intervals_agree_on_what_is_clear():
    """Skewed by one bad speaker: on the scale of ratios alone the interval would reach below zero."""
    base = with_errors({f"{s}-{u}": 1 for s in range(20) for u in range(2)}, 20)
    worse = with_errors({f"{s}-{u}": 2 + 6 * (s == 0) for s in range(20) for u in range(2)}, 20)
    found = compare(worse, base).difference
    assert found.low > 0
    assert found.relative_low > 0
    assert found.relative_low < found.relative < found.relative_high


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        ({"1-a": ("x", "x")}, {"1-b": ("x", "x")}, "1-a is in one of them only"),
        ({"1-a": ("x", "x")}, {"1-a": ("y", "x")}, "reference of utterance 1-a differs"),
        ({"1-a": ("", "x")}, {"1-a": ("", "x")}, "no words"),
        ({}, {}, "no utterances"),
    ],
)
def test_what_cannot_be_paired_is_refused(a, b, sentence):
    with pytest.raises(DataError, match=sentence):
        compare(sample(a), sample(b))


def test_an_empty_reference_counts_its_insertions():
    texts = {"1-a": ("", "x y"), "1-b": ("a b c d", "a b c d"), "2-a": ("a b c d", "a b c d")}
    assert system(sample(texts)).wer == pytest.approx(2 / 8)
