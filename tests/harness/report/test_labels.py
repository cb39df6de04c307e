"""Short names of configurations in figures."""

import json

import pytest

from harness.report.charts._labels import short

GROUPS = {"scheme": "weight_only", "format": "int", "granularity": "per_group", "group_size": 64.0, "bits": 4}
TIED = {"modules": ["tied"], "bits": 6, "granularity": "per_channel"}


@pytest.mark.parametrize(
    ("differing", "recipe", "label"),
    [
        ({}, [], "int4 group 64"),
        ({"granularity": "per_channel"}, [], "int4 channel"),
        ({"bits": None}, [], "mixed group 64"),
        ({"scheme": "none", "format": "fp16", "bits": 16}, [], "fp16"),
        (
            {"bits": None, "granularity": None},
            [TIED, {"parts": ["decoder"], "bits": 3}, {"bits": 4, "granularity": "per_group:64"}],
            "int4 group 64, tied int6, decoder int3",
        ),
        (
            {"bits": None, "granularity": None},
            [TIED, {"bits": 3}, {"bits": 4, "granularity": "per_group:64"}],
            "int3 group 64, tied int6",
        ),
        (
            {"bits": None},
            [{"modules": ["tied"], "bits": 5}, {"bits": 4}],
            "int4 group 64, tied int5",
        ),
        (
            {"group_size": None},
            [{"modules": ["tied"], "granularity": "per_group:128"}, {"granularity": "per_group:64"}],
            "int4 group 64, tied group 128",
        ),
        ({}, [{"match": "*.fc2", "skip": True}], "int4 group 64, *.fc2 float"),
    ],
)
def test_a_recipe_says_what_most_layers_have_and_then_how_its_rules_differ(differing, recipe, label):
    assert short({**GROUPS, **differing, "recipe": json.dumps(recipe) if recipe else ""}) == label
