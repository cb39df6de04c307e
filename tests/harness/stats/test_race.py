"""The race on errors by speaker: what it finds, how often it errs, and what it looks at."""

import numpy as np
import pytest

from harness.stats.race import MostAccurate, Rules, SmallestWithin, looks_of, rounds

WORDS = np.full(40, 200.0)
LOOKS = looks_of(40)


def rules(candidates, confidence=0.95, tolerance=0.003):
    return Rules(WORDS, LOOKS, candidates, confidence, tolerance)


def raced(goal, errors, broken=()):
    """The rounds, and how many speakers every candidate was looked at."""
    seen = {}

    def fetch(names, look):
        seen.update(dict.fromkeys(names, look))
        return {name: errors[name] for name in names if name not in broken}

    return list(rounds(goal, list(errors), fetch)), seen


def study(rng, rates, spread=2.0):
    """Errors of candidates whose word error rates are known, by speakers who differ, and differ alike for all."""
    own = rng.gamma(spread, 1 / spread, 40)
    return {name: rng.poisson(rate * WORDS * own).astype(float) for name, rate in rates.items()}


def test_looks_double_and_end_with_all():
    assert looks_of(40) == (10, 20, 40)
    assert looks_of(8) == (8,)
    assert len(looks_of(2620)) == 5


def test_the_hopeless_go_first_and_cost_little():
    rng = np.random.default_rng(0)
    errors = study(rng, {"good": 0.05, "bad": 0.4, "worse": 1.0})
    found, seen = raced(MostAccurate(rules(3)), errors)
    assert found[-1].standing.leader == "good"
    assert seen["worse"] <= 10
    assert set(found[-1].standing.ruled_out) == {"bad", "worse"}


def test_what_hardly_differs_is_spared_and_not_looked_at_to_the_end():
    errors = {name: np.full(40, 10.0) for name in "abcd"}
    errors["b"][::7] += 1
    found, seen = raced(MostAccurate(rules(4)), errors)
    assert not found[-1].standing.contenders
    assert max(seen.values()) < 40
    assert set(found[-1].standing.spared) == {"b", "c", "d"}


def test_with_all_speakers_the_fewest_errors_win():
    errors = {"a": np.full(40, 10.0), "b": np.full(40, 10.0)}
    errors["a"][0], errors["b"][39] = 60, 90
    found, seen = raced(MostAccurate(rules(2)), errors)
    assert (found[-1].speakers, found[-1].standing.leader) == (40, "a")
    assert seen == {"a": 40, "b": 40}
    assert not found[-1].standing.contenders


def test_who_was_spared_comes_back_where_the_leader_changes():
    """`a` leads and `b` is as good as it, so that it waits; then `a` fails, and `b` is looked at again."""
    errors = {name: np.full(40, 10.0) for name in "abc"}
    errors["a"][25:] += 20
    errors["c"] += np.tile([-4.0, 5.0, 4.0, -3.0], 10)
    found, seen = raced(MostAccurate(rules(3)), errors)
    assert "b" in found[0].standing.spared
    assert found[-1].standing.leader == "b"
    assert seen["b"] == 40


def test_who_fails_is_out():
    errors = {name: np.full(40, float(count)) for name, count in (("a", 10), ("b", 11), ("c", 60))}
    found, _ = raced(MostAccurate(rules(3)), errors, broken=["a"])
    assert found[-1].standing.leader == "b"
    assert raced(MostAccurate(rules(3)), errors, broken="abc")[0] == []


@pytest.mark.parametrize("seed", [0, 1])
def test_the_winner_is_seldom_worse_than_the_best_by_more_than_the_tolerance(seed):
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(200):
        errors = study(rng, {f"c{i}": 0.05 + 0.004 * i for i in range(6)})
        winner = raced(MostAccurate(rules(6)), errors)[0][-1].standing.leader
        best = min(own.sum() for own in errors.values())
        wrong += errors[winner].sum() - best > 0.003 * WORDS.sum()
    assert wrong / 200 <= 0.05


def within(errors, sizes, baseline, limit=0.01, **settings):
    goal = SmallestWithin(rules(len(errors), **settings), dict.fromkeys(errors, baseline), sizes, limit)
    return raced(goal, errors)


def test_the_smallest_within_the_limit_ends_the_race_for_larger_ones():
    baseline = np.full(40, 10.0)
    errors = {"tiny": baseline + 40, "small": baseline.copy(), "large": baseline.copy()}
    found, seen = within(errors, {"tiny": 1, "small": 2, "large": 3}, baseline)
    assert found[-1].standing.leader == "small"
    assert found[-1].standing.ruled_out == ("tiny",)
    assert max(seen.values()) < 40


def test_of_one_size_the_more_accurate_wins():
    baseline = np.full(40, 10.0)
    errors = {"a": baseline + np.tile([1.0, 0.0], 20), "b": baseline.copy()}
    assert within(errors, {"a": 1, "b": 1}, baseline)[0][-1].standing.leader == "b"


def test_nothing_within_the_limit_has_no_winner():
    baseline = np.full(40, 10.0)
    found, seen = within({"a": baseline + 50, "b": baseline + 60}, {"a": 1, "b": 2}, baseline)
    assert found[-1].standing.leader is None
    assert found[-1].standing.ruled_out == ("a", "b")
    assert max(seen.values()) < 40


def test_at_the_limit_the_whole_set_decides_without_tolerance():
    """Every fourth speaker bears all of it: more than the limit, though not by the tolerance."""
    baseline = np.full(40, 10.0)
    bad = baseline.copy()
    bad[::4] += 0.011 * WORDS.sum() / 10
    found, seen = within({"bad": bad, "good": baseline.copy()}, {"bad": 1, "good": 2}, baseline)
    assert (found[-1].standing.leader, seen["bad"]) == ("good", 40)


@pytest.mark.parametrize("loss", [0.009, 0.014])
def test_the_limit_is_seldom_taken_for_the_other_side(loss):
    """Just within, it is seldom ruled out; beyond limit and tolerance, it seldom wins."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        errors = study(rng, {"baseline": 0.05, "small": 0.05 + loss, "large": 0.05})
        baseline = errors.pop("baseline")
        own = (errors["small"] - baseline).sum() / WORDS.sum()
        winner = within(errors, {"small": 1, "large": 2}, baseline)[0][-1].standing.leader
        wrong += winner != "small" if own <= 0.01 else (winner == "small" and own > 0.013)
    assert wrong / 200 <= 0.05


def test_a_bound_without_any_difference_is_narrower_the_more_speakers():
    bounds = [float(rules(30).lower(np.zeros(count))) for count in LOOKS]
    assert bounds[0] < -0.002
    assert bounds == sorted(bounds)
    assert bounds[-1] == 0


def test_what_is_capped_stays_below_what_is_not():
    gaps = np.array([0.0, 150.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    rate = gaps.sum() / WORDS[:10].sum()
    assert rules(10).lower(gaps) < rate
    assert rules(10).lower(gaps) > rules(10).lower(-gaps)
