"""A planted study: effects that are known come back, and what cannot be told apart is flagged."""

import math

import numpy as np
import pytest

from harness.stats import Outcome, additive, effects, interactions, unmatched, varying
from harness.stats.effects import factors_of, levels_of

SPEAKERS, WORDS = 30, 900
BITS = {"8": 0.0, "4": 0.02, "3": 0.06}
GRANULARITY = {"per_channel": 0.03, "per_group:64": 0.01, "per_group:32": 0.0}
NOISY = 2.0
"""On the second split a granularity costs so many times as much."""


STUDIES = 20


def planted(seed):
    """Libraries a and b; b alone has nf4, and nothing but nf4; b has a method of its own too. The grid has holes."""
    rng = np.random.default_rng(seed)
    words = rng.integers(WORDS // 2, WORDS * 3 // 2, SPEAKERS)
    found = []
    for split, strength in (("clean", 1.0), ("noisy", NOISY)):
        baseline = rng.poisson(words * rng.lognormal(math.log(0.08), 0.4, SPEAKERS))
        for backend, bits, granularity in grid():
            cost = BITS[bits] + strength * GRANULARITY[granularity] + 0.04 * (backend == "b")
            by_speaker = cost * rng.lognormal(-0.02, 0.2, SPEAKERS)
            factors = {
                "backend": backend,
                "bits": bits,
                "granularity": granularity,
                "format": "nf4" if backend == "b" else "int",
                "scheme": "weight_only",
            }
            errors = baseline + rng.poisson(words * by_speaker)
            found.append(Outcome(f"{split}-{backend}-{bits}-{granularity}", split, factors, errors, baseline, words))
    return found


def grid():
    cells = [("a", bits, granularity) for bits in BITS for granularity in GRANULARITY]
    cells.remove(("a", "4", "per_group:32"))
    cells.remove(("a", "8", "per_channel"))
    return [*cells, ("b", "4", "per_channel"), ("b", "4", "per_group:64"), ("b", "4", "per_group:32")]


@pytest.fixture(scope="module")
def study():
    return planted(0)


def true_effect(effect, strength):
    costs = BITS if effect.factor == "bits" else GRANULARITY
    return (costs[effect.level] - costs[effect.base]) * (strength if effect.factor == "granularity" else 1)


def test_planted_effects_come_back_within_their_intervals():
    """Intervals of 95 % over twenty studies; those of one study have their speakers in common."""
    strength = {"clean": 1.0, "noisy": NOISY}
    inside = []
    for seed in range(STUDIES):
        found = effects(planted(seed))
        assert {e.factor for e in found} == {"bits", "granularity"}
        for effect in found:
            true = true_effect(effect, strength[effect.split])
            inside.append(effect.low <= true <= effect.high)
            assert effect.difference == pytest.approx(true, abs=0.025)
            assert effect.high - effect.low < 0.04
    assert len(inside) == 2 * 6 * STUDIES
    assert np.mean(inside) > 0.9


def test_pairs_agree_in_everything_else(study):
    by_id = {o.cell_id: o for o in study}
    for effect in effects(study):
        assert effect.pairs == len(effect.cells) == len(set(effect.cells))
        for one, other in effect.cells:
            a, b = by_id[one].factors, by_id[other].factors
            assert [k for k in a if a[k] != b[k]] == [effect.factor]
            assert (a[effect.factor], b[effect.factor]) == (effect.base, effect.level)
    four_to_three = next(e for e in effects(study) if (e.base, e.level, e.split) == ("4", "3", "clean"))
    assert four_to_three.pairs == 2


def test_what_has_no_matched_pair_gets_no_number(study):
    assert unmatched(study) == ["backend", "format"]


def test_the_planted_interaction_with_the_split_is_found(study):
    own = [e for e in interactions(study) if e.within == "split: clean to noisy"]
    for effect in own:
        true = true_effect(effect, NOISY - 1) if effect.factor == "granularity" else 0.0
        assert effect.difference == pytest.approx(true, abs=0.03)
    assert all(e.high < 0 for e in own if (e.base, e.level) == ("per_channel", "per_group:32"))
    assert any(e.factor == "granularity" for e in own)


def test_there_is_no_interaction_with_bits_where_none_was_planted(study):
    own = [e for e in interactions(study) if e.within.startswith("bits")]
    assert {(e.factor, e.within) for e in own} == {
        ("granularity", f"bits: {more} to {fewer}") for more, fewer in (("8", "4"), ("8", "3"), ("4", "3"))
    } - {("granularity", "bits: 8 to 4")}
    assert all(abs(e.difference) < 0.02 for e in own)


@pytest.mark.parametrize(("split", "strength"), [("clean", 1.0), ("noisy", NOISY)])
def test_the_additive_model_gives_the_planted_effects(split, strength):
    inside = []
    for seed in range(STUDIES):
        model = additive(planted(seed), split)
        assert model.cells == 10
        assert model.freedom == 10 - 6
        assert model.residual < 0.02
        own = [t for t in model.terms if t.factor in ("bits", "granularity")]
        assert not any(t.confounded_with for t in own)
        inside += [t.low <= true_effect(t, strength) <= t.high for t in own]
    assert len(inside) == 4 * STUDIES
    assert np.mean(inside) > 0.9


def test_the_confounded_factor_is_flagged_and_gets_no_number(study):
    terms = {(t.factor, t.level): t for t in additive(study, "clean").terms}
    for factor, level, other in (("backend", "b", "format"), ("format", "nf4", "backend")):
        term = terms[factor, level]
        assert term.confounded_with == (other,)
        assert math.isnan(term.difference)
        assert not term.matched
    assert all(t.matched for (factor, _), t in terms.items() if factor in ("bits", "granularity"))


def test_a_level_that_only_one_library_has_rests_on_an_assumption(study):
    """With 8-bit int of library b the format can be estimated, but only if factors do not interact."""
    extra = next(o for o in study if o.cell_id == "clean-a-8-per_group:64")
    factors = {**extra.factors, "backend": "b"}
    own = [*study, Outcome("more", "clean", factors, extra.errors, extra.baseline_errors, extra.words)]
    term = next(t for t in additive(own, "clean").terms if t.level == "nf4")
    assert not term.confounded_with
    assert term.difference == pytest.approx(0.04, abs=0.02)
    assert set(term.only_with) == {"backend=b", "bits=4"}


def test_the_effect_of_a_model_is_on_the_cost_and_splits_with_common_speakers_do_not_interact():
    words, baselines = np.full(8, 100), {"tiny": np.full(8, 20), "small": np.full(8, 5)}
    own = [
        Outcome(f"{m}-{s}", s, {"model": m, "bits": "8"}, baseline + 3, baseline, words, frozenset({"anna", "ben"}))
        for m, baseline in baselines.items()
        for s in ("clean", "noisy")
    ]
    assert [(e.base, e.level, e.difference) for e in effects(own)] == [("small", "tiny", 0.0)] * 2
    assert interactions(own) == []


def test_too_little_for_a_model(study):
    assert additive(study[:1], "clean") is None
    assert additive([], "clean") is None
    assert effects([]) == interactions([]) == unmatched([]) == varying([]) == []


def test_cells_of_other_references_are_no_pair(study):
    a, b = (next(o for o in study if o.cell_id == f"clean-a-{bits}-per_group:64") for bits in ("8", "4"))
    shifted = Outcome(b.cell_id, b.split, b.factors, b.errors, b.baseline_errors, b.words + 1)
    assert len(effects([a, b])) == 1
    assert effects([a, shifted]) == []


ROW = {"backend": "hqq", "scheme": "weight_only", "activations": None, "group_size": None, "symmetric": False}
ROW |= {"granularity": "per_channel", "bits": 4, "options": '{"axis": 1, "optimize": true}', "format": "int"}


def test_an_option_is_a_factor_of_its_library():
    levels = factors_of(ROW)
    assert levels["hqq.axis"] == "1"
    assert levels["hqq.optimize"] == "true"
    assert levels["activations"] == "none"


def test_a_recipe_is_a_level_that_people_can_read():
    recipe = '[{"modules":["tied"],"granularity":"per_group:128"},{"granularity":"per_group:64"}]'
    levels = factors_of(ROW | {"granularity": "per_group", "recipe": recipe})
    assert levels["granularity"] == "per_group"
    assert levels["recipe"] == "[tied per_group:128; linear per_group:64]"


def outcome(name, **changes):
    return Outcome(name, "clean", factors_of(ROW | changes), *(np.arange(3), np.arange(3), np.full(3, 9)))


def test_libraries_are_matched_without_the_options_that_only_they_have():
    other = outcome("b", backend="quanto", options='{"optimizer": "max"}')
    assert [e.factor for e in effects([outcome("a"), other])] == ["backend"]
    assert effects([outcome("a"), outcome("b", backend="quanto", bits=8, options="{}")]) == []


def test_a_scheme_brings_its_activations_along():
    dynamic = outcome("b", scheme="dynamic", activations="int8:per_token")
    assert [(e.factor, e.base, e.level) for e in effects([outcome("a"), dynamic])] == [
        ("scheme", "weight_only", "dynamic")
    ]


def test_rounded_outputs_are_a_factor_that_no_other_brings_along():
    static = {"scheme": "static", "activations": "int8:per_tensor", "outputs": False}
    own = [outcome("a", outputs=False), outcome("b", **static), outcome("c", **static | {"outputs": True})]
    own.append(outcome("d", **static | {"outputs": True, "backend": "torch_static", "options": "{}"}))
    assert [(e.factor, e.cells) for e in effects(own)] == [
        ("backend", (("c", "d"),)),
        ("scheme", (("a", "b"),)),
        ("outputs", (("b", "c"),)),
    ]


def test_usual_levels_come_first():
    own = [outcome(str(i), bits=bits) for i, bits in enumerate((3, 8, 4))]
    own += [outcome("g", granularity="per_group", group_size=64), outcome("t", granularity="per_tensor")]
    own += [outcome("h", granularity="per_group", group_size=128)]
    assert levels_of(own, "bits") == ["8", "4", "3"]
    assert levels_of(own, "granularity") == ["per_tensor", "per_channel", "per_group:128", "per_group:64"]


def in_noise(seed=0):
    """Three bits cost .02 in quiet and .06 with noise, eight nothing; speakers differ much, the same in both."""
    rng = np.random.default_rng(seed)
    words = rng.integers(500, 1500, SPEAKERS)
    hard = rng.lognormal(0, 0.5, SPEAKERS)
    hard /= np.average(hard, weights=words)
    speakers = frozenset(map(str, range(SPEAKERS)))
    for split, condition, cost in (("set", "clean", 0.02), ("set + babble 5 dB", "babble 5 dB", 0.06)):
        baseline = rng.poisson(words * 0.1)
        for bits in ("8", "3"):
            errors = baseline + np.round(words * hard * cost * (bits == "3"))
            factors = {"backend": "a", "bits": bits, "condition": condition}
            yield Outcome(f"{bits} {condition}", split, factors, errors, baseline, words, speakers, "set")


def test_a_condition_is_a_factor_and_its_speakers_are_resampled_together():
    study = list(in_noise())
    (bits,) = interactions(study)
    assert (bits.factor, bits.base, bits.level) == ("bits", "8", "3")
    assert (bits.within, bits.split) == ("condition: clean to babble 5 dB", "set, set + babble 5 dB")
    assert bits.difference == pytest.approx(0.04, abs=1e-3)
    assert bits.is_clear
    quiet, noisy = ([o for o in study if o.factors["condition"] == c] for c in ("clean", "babble 5 dB"))
    alone = [e for e in effects([*quiet, *noisy]) if e.factor == "bits"]
    apart = math.hypot(*(e.high - e.low for e in alone))
    assert bits.high - bits.low < 0.8 * apart  # what speakers have in common cancels
    (condition,) = [e for e in effects(study) if e.factor == "condition"]
    assert (condition.base, condition.level, condition.pairs) == ("clean", "babble 5 dB", 2)
    assert condition.difference == pytest.approx(0.02, abs=1e-3)
    assert {e.split for e in alone} == {"set", "set + babble 5 dB"}


def test_noise_grows_from_level_to_level():
    names = ["clean", "telephone", "babble 20 dB", "babble 5 dB", "babble -5 dB"]
    own = [Outcome(name, name, {"condition": name}, *np.ones((3, 2))) for name in sorted(names)]
    assert levels_of(own, "condition") == names
