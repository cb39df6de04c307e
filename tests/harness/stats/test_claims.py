"""Verdicts on samples whose truth is known, and how often they err where a claim lies just on its boundary."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import DataError
from harness.stats import compare
from harness.stats.claims import (
    Direction,
    Finding,
    Verdict,
    between_models,
    between_splits,
    difference_of,
    exact,
    judged,
    non_inferior,
)
from harness.stats.rates import Rate, combined
from harness.stats.study import holm
from tests.harness.stats.samples import with_errors

ABOVE, BELOW, WITHIN = Direction
SPEAKERS, WORDS = 20, 100


def counts(base, more, speakers=SPEAKERS, name="s"):
    """A cell with `more(speaker)` errors beyond a baseline that errs `base` times per utterance."""
    own = {f"{name}{s}-0": base + more(s) for s in range(speakers)}
    return with_errors(own, WORDS), with_errors(dict.fromkeys(own, base), WORDS)


def even(number):
    """So many errors more with every speaker, give or take one."""
    return lambda speaker: number + (-1) ** speaker


def verdict(*findings):
    return judged(findings)[0]


@pytest.mark.parametrize(
    ("more", "margin", "expected"),
    [
        (even(0), 0.10, Verdict.CONFIRMED),
        (even(5), 0.10, Verdict.CONTRADICTED),
        (even(2), 0.10, Verdict.CANNOT_TELL),
        (lambda s: 0, 0.05, Verdict.CONFIRMED),
        (lambda s: 30 * (s == 3), 0.05, Verdict.CANNOT_TELL),
    ],
)
def test_not_worse_than_a_margin(more, margin, expected):
    found = non_inferior(*counts(20, more), margin, BELOW)
    assert verdict(found) is expected
    opposite = {Verdict.CONFIRMED: Verdict.CONTRADICTED, Verdict.CONTRADICTED: Verdict.CONFIRMED}
    assert verdict(non_inferior(*counts(20, more), margin, ABOVE)) is opposite.get(expected, expected)


def test_relative_errors_are_told_and_decided_as_the_results_decide():
    rng = np.random.default_rng(7)
    for shift in (0, 1, 2):
        draw = rng.integers(-1, 2, SPEAKERS)
        pair = counts(20, lambda s, draw=draw, shift=shift: int(draw[s]) + shift)
        found, known = non_inferior(*pair, 0.05, BELOW), compare(*pair).difference
        assert (found.effect, found.low, found.high) == (known.relative, known.relative_low, known.relative_high)
        assert (verdict(found) is Verdict.CONFIRMED) == known.non_inferior


@pytest.mark.parametrize(
    ("more", "margin", "direction", "expected"),
    [
        (even(5), 0.0, ABOVE, Verdict.CONFIRMED),
        (even(5), 0.0, BELOW, Verdict.CONTRADICTED),
        (even(0), 0.0, ABOVE, Verdict.CANNOT_TELL),
        (even(5), 0.04, ABOVE, Verdict.CONFIRMED),
        (even(5), 0.06, ABOVE, Verdict.CONTRADICTED),
        (even(5), 0.05, ABOVE, Verdict.CANNOT_TELL),
        (even(-5), -0.04, BELOW, Verdict.CONFIRMED),
        (lambda s: 0, 0.0, ABOVE, Verdict.CANNOT_TELL),
    ],
)
def test_differences(more, margin, direction, expected):
    found = difference_of(*counts(20, more), margin, direction)
    assert verdict(found) is expected
    assert found.low <= found.effect <= found.high
    assert found.identical == (more(0) == 0)


def test_the_interval_lies_on_the_claimed_side_just_where_p_says_so():
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(30):
        draw = rng.integers(-3, 5, SPEAKERS)
        found = difference_of(*counts(20, lambda s, draw=draw: int(draw[s])), 0.0, ABOVE)
        inside = Verdict.CONFIRMED if found.low > 0 else Verdict.CONTRADICTED if found.high < 0 else Verdict.CANNOT_TELL
        assert verdict(found) is inside
        seen.add(inside)
    assert seen >= {Verdict.CONFIRMED, Verdict.CANNOT_TELL}


def test_p_is_nearly_students():
    values = np.random.default_rng(3).normal(0.5, 2, 30)
    found = combined([[Rate(values, np.ones(30))]], 50_000)
    t = values.mean() / (values.std(ddof=1) / math.sqrt(30))
    assert found.p(0.0) == pytest.approx(2 * stats.t.sf(abs(t), 29), abs=0.02)
    assert found.p(found.estimate) == 1


def test_what_could_have_been_seen_is_told_in_the_unit_of_the_effect():
    wide, narrow = (difference_of(*counts(20, m), 0.0, ABOVE) for m in (lambda s: 6 * (-1) ** s, even(0)))
    assert wide.detectable == pytest.approx(6 * narrow.detectable, rel=0.01)
    relative = non_inferior(*counts(20, even(0)), 0.05, BELOW)
    assert relative.detectable == pytest.approx(5 * narrow.detectable, rel=0.02)


@pytest.mark.parametrize("speakers", [2, 5])
def test_few_speakers_decide_nothing(speakers):
    found = difference_of(*counts(0, lambda s: 50, speakers), 0.0, ABOVE)
    assert verdict(found) is Verdict.CANNOT_TELL
    assert math.isnan(found.detectable)


def test_few_speakers_with_a_difference_decide_nothing():
    found = difference_of(*counts(5, lambda s: 9 * (s < 5)), 0.0, ABOVE)
    assert found.low > 0
    assert verdict(found) is Verdict.CANNOT_TELL


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (even(8), even(2), Verdict.CONFIRMED),
        (even(2), even(8), Verdict.CONTRADICTED),
        (even(4), even(4), Verdict.CANNOT_TELL),
    ],
)
def test_interactions(first, second, expected):
    splits = between_splits(counts(20, first), counts(10, second, 30, "t"), 0.0, ABOVE)
    assert splits.effect == pytest.approx((first(0) - second(0)) / WORDS)
    assert splits.blocks == SPEAKERS
    models = between_models(counts(20, first), counts(10, lambda s: second(s // 2)), 0.0, ABOVE)
    assert verdict(splits) is verdict(models) is expected


def test_models_are_paired_by_speaker_and_splits_are_not():
    def hard(speaker):
        return 8 * (-1) ** speaker

    models = between_models(counts(20, lambda s: hard(s) + 1), counts(20, hard), 0.0, ABOVE)
    splits = between_splits(counts(20, lambda s: hard(s) + 1), counts(20, hard, name="t"), 0.0, ABOVE)
    assert verdict(models) is Verdict.CONFIRMED
    assert verdict(splits) is Verdict.CANNOT_TELL
    assert models.effect == pytest.approx(splits.effect)


def test_conditions_of_one_test_set_are_resampled_together():
    def hard(speaker):
        return 8 * (-1) ** speaker

    clean, noisy = counts(20, hard), counts(20, lambda s: hard(s) + 1)
    assert between_splits(noisy, clean, 0.0, ABOVE) == between_models(noisy, clean, 0.0, ABOVE)


def test_a_cost_in_points_may_grow_while_the_relative_one_does_not():
    quiet, noisy = counts(10, lambda s: 4 + s % 3), counts(40, lambda s: 4 * (4 + s % 3))
    assert verdict(between_splits(noisy, quiet, 0.0, ABOVE)) is Verdict.CONFIRMED
    relative = between_splits(noisy, quiet, 0.0, ABOVE, relative=True)
    assert relative.effect == pytest.approx(0.0)
    assert verdict(relative) is Verdict.CANNOT_TELL
    more = between_splits(counts(40, even(40)), quiet, 0.0, ABOVE, relative=True)
    assert more.effect == pytest.approx(1.0 - sum(4 + s % 3 for s in range(SPEAKERS)) / (10 * SPEAKERS))
    assert more == between_models(counts(40, even(40)), quiet, 0.0, ABOVE, relative=True)
    with pytest.raises(DataError, match="makes no errors on one of the two"):
        between_splits(noisy, counts(0, even(2)), 0.0, ABOVE, relative=True)


def test_relative_costs_that_are_equal_are_seldom_told_apart():
    """400 studies of 40 speakers: a fifth more errors in quiet and in noise, so either verdict is an error."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(400):
        hard, rates = rng.gamma(2.0, 0.5, 40), []
        for base, sign in ((12.0, 1), (2.5, -1)):
            errors = rng.poisson(base * hard)
            more = rng.poisson(0.3 * base * hard) - rng.binomial(errors, 0.1)
            rates.append(Rate(more, errors, sign))
        wrong += combined([rates], 1999).p(0.0) < 0.05
    assert wrong <= 0.05 * 400


def test_models_need_the_same_speakers_and_splits_others():
    pair, others = counts(5, even(1)), counts(5, even(1), name="t")
    with pytest.raises(DataError, match="no independent samples: both have speaker s0"):
        between_splits(pair, counts(5, even(1), speakers=SPEAKERS + 1), 0.0, ABOVE)
    with pytest.raises(DataError, match="not of the same speakers: s0"):
        between_models(pair, others, 0.0, ABOVE)
    with pytest.raises(DataError, match="different test sets"):
        difference_of(pair[0], others[0], 0.0, ABOVE)


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [
        (0.565, WITHIN, Verdict.CONFIRMED),
        (0.33, WITHIN, Verdict.CONTRADICTED),
        (0.61, WITHIN, Verdict.CONTRADICTED),
        (0.61, ABOVE, Verdict.CONFIRMED),
        (0.565, ABOVE, Verdict.CONFIRMED),
        (0.33, ABOVE, Verdict.CONTRADICTED),
        (0.33, BELOW, Verdict.CONFIRMED),
        (0.61, BELOW, Verdict.CONTRADICTED),
    ],
)
def test_numbers_without_error(value, direction, expected):
    found = exact(value, 0.57, 0.01, direction)
    assert verdict(found) is expected
    assert math.isnan(found.low)


def place(side, p):
    return Finding(0.0, 0.0, 0.0, side, p, math.nan, 20, "speaker")


@pytest.mark.parametrize(
    ("places", "expected", "p"),
    [
        ([place(1, 0.01), place(1, 0.03)], Verdict.CONFIRMED, 0.03),
        ([place(1, 0.01), place(1, 0.2)], Verdict.CANNOT_TELL, 0.2),
        ([place(1, 0.001), place(-1, 0.02)], Verdict.CONTRADICTED, 0.04),
        ([place(1, 0.001), place(-1, 0.03)], Verdict.CANNOT_TELL, 0.06),
        ([place(-1, 0.6), place(-1, 0.7)], Verdict.CANNOT_TELL, 1.0),
        ([place(0, 1.0)], Verdict.CANNOT_TELL, 1.0),
    ],
)
def test_a_claim_about_several_places_needs_them_all_and_fails_with_one(places, expected, p):
    found = judged(places)
    assert found == (expected, pytest.approx(p))


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan})
    assert [adjusted[name] for name in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(adjusted["d"])


@pytest.mark.parametrize("boundary", [0.0, 0.02])
def test_a_claim_on_its_boundary_is_seldom_decided(boundary):
    """400 studies of 20 speakers who differ: the true difference is the boundary, so either verdict is an error."""
    rng = np.random.default_rng(11)
    errors = 0
    for _ in range(400):
        words = rng.integers(150, 250, SPEAKERS)
        cost = boundary * words + rng.normal(0, 0.02, SPEAKERS) * words + rng.normal(0, 2, SPEAKERS)
        errors += combined([[Rate(cost, words)]], 1999).p(boundary) < 0.05
    assert errors <= 0.05 * 400
