"""Recipes: which rule decides a module, the one spelling of a recipe, and what is refused."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import ModelError, QuantSpec, SpecError, Supported, UnsupportedError, load, quantize, resolve
from backends.core.recipes import encoder_rules, recipe_text
from backends.core.report import size_bytes
from harness.experiment.cell import Configuration, spec_columns
from harness.experiment.tables import Model
from tests.conftest import build_whisper

TIE = {"modules": ["tied"], "bits": 6, "granularity": "per_channel"}


def small(recipe=(), bits=4, backend="ptq", granularity="per_group:32", **changes):
    own = {"method": "rtn"} if backend == "ptq" else {}
    settings = {"recipe": recipe, **own, **changes}
    return quantize(build_whisper(), "weight_only", granularity, bits, backend=backend, **settings)


def resolved(recipe=(), bits=4, backend="ptq", granularity="per_group:32", **changes):
    return resolve(QuantSpec("weight_only", granularity, bits, recipe=recipe, **changes), backend)[0]


def codes(found):
    return {layer.name: str(layer.effective) for layer in found.report.layers if layer.effective is not None}


def test_the_first_rule_decides():
    first = "model.decoder.layers.0.fc1"
    recipe = [{"match": first, "bits": 2}, {"match": "*.fc1", "bits": 8}, {"parts": ["decoder"], "bits": 3}]
    found = codes(small(recipe))
    assert found[first] == "int2 per_group:32 asymmetric"
    assert found["model.encoder.layers.0.fc1"] == "int8 per_group:32 symmetric"
    assert found["model.decoder.layers.0.fc2"] == "int3 per_group:32 asymmetric"
    assert found["model.encoder.layers.0.fc2"] == "int4 per_group:32 asymmetric"


def test_skipped_layers_stay_float_and_say_why():
    found = small([{"match": "*.fc2", "skip": True}])
    layer = next(layer for layer in found.report.layers if layer.name == "model.encoder.layers.0.fc2")
    assert layer.effective is None
    assert layer.reason == 'left out by the rule {match = "*.fc2", skip = true}'


def test_kinds_beyond_the_configurations_own_come_in():
    found = small([TIE], modules=["linear"])
    assert codes(found)["proj_out"] == "int6 per_channel asymmetric"


@pytest.mark.parametrize(
    ("backend", "bits", "granularity"),
    [("ptq", 3, "per_group:32"), ("hqq", 3, "per_group:64"), ("torchao", 4, "per_group:32")],
)
def test_both_halves_at_one_width_are_the_plain_configuration_bit_for_bit(backend, bits, granularity, whisper_inputs):
    halves = [{"parts": [part], "bits": bits} for part in ("encoder", "decoder")]
    asked = {"backend": backend, "granularity": granularity}
    models = [small(halves, bits=8, **asked).model, small(bits=bits, **asked).model]
    with torch.no_grad():
        one, other = (model(**whisper_inputs).logits for model in models)
    assert torch.equal(one, other)


@pytest.mark.parametrize("method", ["gptq", "omniquant"])
def test_calibrated_halves_too(method, whisper_inputs):
    halves = [{"parts": [part], "bits": 3} for part in ("encoder", "decoder")]
    own = {"method": method, "calibration": [whisper_inputs]} | (
        {"options": {"epochs": 1}} if method == "omniquant" else {}
    )
    with torch.no_grad():
        one, other = (small(*asked, **own).model(**whisper_inputs).logits for asked in ((halves, 4), ((), 3)))
    assert torch.equal(one, other)


def test_the_size_is_the_sum_of_the_parts():
    """What a rule changes is what the same change of its part alone changes."""
    sizes = {
        (encoder, decoder): small([{"parts": ["encoder"], "bits": encoder}], decoder).report.size_bytes
        for encoder in (3, 4)
        for decoder in (3, 4)
    }
    assert sizes[4, 4] - sizes[3, 4] == sizes[4, 3] - sizes[3, 3] > 0
    tie = small([TIE]).report.size_bytes - small().report.size_bytes
    assert small([TIE, {"parts": ["encoder"], "bits": 3}]).report.size_bytes == sizes[3, 4] + tie


def test_a_recipe_survives_saving(tmp_path, whisper_inputs):
    found = small([TIE, {"match": "*.fc1", "skip": True}, {"parts": ["decoder"], "bits": 3}], rest="fp16")
    found.save(tmp_path / "saved")
    restored = load(tmp_path / "saved")
    assert restored.spec == found.spec
    assert restored.report == found.report
    assert size_bytes(restored.model) == found.report.size_bytes
    with torch.no_grad():
        assert torch.equal(restored.model(**whisper_inputs).logits, found.model(**whisper_inputs).logits)


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        [{"bits": 4}],
        [{"parts": ["encoder"]}, {"parts": ["decoder"], "bits": 4}],
        [{"match": "*", "granularity": "per_group:32"}],
        [{"parts": ["encoder", "decoder"], "symmetric": False, "method": "gptq"}],
    ],
)
def test_a_recipe_that_changes_nothing_is_none(recipe):
    assert resolved(recipe) == resolved()


def test_a_rule_that_keeps_later_ones_away_stays():
    found = resolved([{"match": "*.fc1"}, {"bits": 3}])
    assert recipe_text(found) == '[{"match":"*.fc1"},{"bits":3},{"bits":4}]'


def test_defaults_are_those_of_the_rules_own_code():
    """8 bits are symmetric and others not; the last rule is the configuration's own, where rules differ from it."""
    assert recipe_text(resolved([{"parts": ["encoder"], "bits": 8}, {"parts": ["decoder"], "bits": 3}])) == (
        '[{"bits":8,"parts":["encoder"],"symmetric":true},{"bits":3,"parts":["decoder"]},{"bits":4,"symmetric":false}]'
    )
    own = recipe_text(resolved([{"parts": ["encoder"], "bits": 8}], symmetric=False))
    assert own == '[{"bits":8,"parts":["encoder"]},{"bits":4}]'


rules = st.fixed_dictionaries(
    {},
    optional={
        "parts": st.sampled_from([["encoder"], ["decoder"], ["encoder", "decoder"]]),
        "modules": st.sampled_from([["linear"], ["tied"], ["linear", "tied"]]),
        "match": st.sampled_from(["*.fc1", "model.encoder.*"]),
        "bits": st.sampled_from([3, 4, 8]),
        "granularity": st.sampled_from(["per_channel", "per_group:32"]),
        "symmetric": st.booleans(),
        "method": st.sampled_from(["rtn", "gptq"]),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(rules, max_size=4), st.sampled_from([3, 4, 8]), st.sampled_from([None, True, False]))
def test_resolving_twice_changes_nothing(recipe, bits, symmetric):
    once = resolved(recipe, bits, symmetric=symmetric)
    assert resolve(once, "ptq")[0] == once


asked = st.tuples(
    st.lists(rules, max_size=3),
    st.sampled_from([3, 4, 8]),
    st.sampled_from(["per_channel", "per_group:32"]),
    st.sampled_from([["linear"], ["linear", "tied"]]),
    st.sampled_from([["encoder"], ["encoder", "decoder"]]),
)


@settings(max_examples=300, deadline=None)
@given(asked, asked)
def test_what_has_the_same_columns_is_the_same(one, other):
    """An id is made of the columns: none may stand for two things."""
    found = []
    for recipe, bits, granularity, modules, parts in (one, other, (one[0], *other[1:])):
        spec = resolved(recipe, bits, granularity=granularity, modules=modules, parts=parts)
        model = Configuration(Model(path="m"), "ptq", spec, "{}", "cpu", Supported())
        found.append((spec, spec_columns(model)))
    for (spec, columns), (another, others) in itertools.combinations(found, 2):
        assert (columns == others) == (spec == another)


def test_encoders_that_are_asked_the_same_have_the_same_rules():
    decoders = [resolved([TIE, {"parts": ["decoder"], "bits": bits}]) for bits in (3, 8)]
    assert encoder_rules(decoders[0]) == encoder_rules(decoders[1]) == encoder_rules(resolved())
    said_otherwise = resolved([{"parts": ["encoder"], "bits": 4}], bits=3)
    assert encoder_rules(said_otherwise) == encoder_rules(resolved())
    assert encoder_rules(resolved(parts=["decoder"])) == []
    assert encoder_rules(resolved([{"parts": ["encoder"], "bits": 3}])) != encoder_rules(resolved())


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ([{"part": ["encoder"], "bits": 8}], "did you mean 'parts'"),
        ([{"parts": ["encoders"], "bits": 8}], "recipe: parts 'encoders' is not one of encoder, decoder"),
        ([{"parts": [], "bits": 8}], "recipe: parts is empty"),
        ([{"modules": ["heads"], "bits": 8}], "recipe: modules 'heads' is not one of"),
        ([{"modules": [], "bits": 8}], "recipe: modules is empty"),
        ([{"bits": 9}], "the rule {bits = 9}: bits is 9; integers have 1 to 8"),
        ([{"bits": "4"}], "recipe: bits is '4'"),
        ([{"bits": 4.0}], "recipe: bits is 4.0"),
        ([{"bits": True}], "recipe: bits is True"),
        ([{"format": "int7"}], "recipe: format 'int7'"),
        ([{"format": "nf4", "bits": 8}], "the format nf4 has 4"),
        ([{"granularity": "per_row"}], "granularity 'per_row'"),
        ([{"granularity": "per_group:0"}], "per_group"),
        ([{"symmetric": 1}], "recipe: symmetric is 1"),
        ([{"method": 4}], "recipe: method is 4"),
        ([{"outputs": "no"}], "recipe: outputs is 'no'"),
        ([{"outputs": True}], "choose scheme static"),
        ([{"skip": "yes"}], "recipe: skip is 'yes'"),
        ([{"skip": True, "bits": 4}], "a rule with skip sets bits too"),
        ([{"match": 3, "bits": 4}], "recipe: match is 3"),
        (["encoder"], "'encoder' is no rule"),
        ([4], "4 is no rule"),
        ([{"modules": ["tied"], "bits": 6}, {"modules": ["head"], "bits": 4}], "leave out either tied or head"),
        (
            [{"modules": ["embedding"], "bits": 6}, {"modules": ["tied"], "bits": 4}],
            "leave out either tied or embedding",
        ),
    ],
)
def test_broken_rules_are_refused_in_a_sentence(recipe, said):
    with pytest.raises(SpecError) as caught:
        small(recipe)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ([{"match": "model.encoder.layer.0.fc1", "bits": 3}], "did you mean 'model.encoder.layers.0.fc1'"),
        ([{"match": "nothing.*", "bits": 3}], "decides no module; there are model."),
        ([{"match": "proj_out", "bits": 3}], "proj_out is of another kind or part, so name its modules"),
        ([{"match": "model.encoder.*", "parts": ["decoder"], "bits": 3}], "another kind or part"),
        ([{"bits": 3}, {"parts": ["encoder"], "bits": 8}], "rules before it decide all of its modules"),
        ([{"modules": ["tied"], "parts": ["decoder"], "bits": 6}], "the model has no tied there"),
        ([{"match": "*.fc9", "skip": True}], "decides no module"),
        ([{"granularity": "per_group:48"}], "group size 48 does not divide"),
    ],
)
def test_rules_that_do_not_fit_the_model_are_refused(recipe, said):
    with pytest.raises(ModelError) as caught:
        small(recipe)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "recipe", "changes", "said"),
    [
        ("ptq", [{"modules": ["conv"], "bits": 8}], {}, "linear layers and the head only"),
        ("ptq", [{"bits": 1}], {}, "2 to 8 bits"),
        ("ptq", [{"method": "omni"}], {}, "method 'omni'"),
        ("ptq", [{"match": "*.fc1", "bits": 8}], {"method": "omniquant"}, "leave match out of the recipe"),
        (
            "ptq",
            [{"match": "*.fc1", "skip": True}],
            {"bits": None, "options": {"target_bits": 4.0}},
            "a budget allots bits",
        ),
        ("quanto", [{"bits": 3}], {"bits": 8, "granularity": "per_channel"}, "Quanto has int of 8, 4 and 2 bits"),
        ("hqq", [{"symmetric": True}], {}, "affine"),
        ("none", [{"bits": 8}], {"scheme": "none"}, "leave recipe out"),
    ],
)
def test_what_a_library_cannot_do_under_a_rule_is_refused(backend, recipe, changes, said):
    settings = {"scheme": "weight_only", "granularity": "per_group:32", "bits": 4, **changes}
    scheme, granularity, bits = (settings.pop(name) for name in ("scheme", "granularity", "bits"))
    with pytest.raises(UnsupportedError) as caught:
        quantize(build_whisper(), scheme, granularity, bits, backend=backend, recipe=recipe, **settings)
    assert said in str(caught.value)
