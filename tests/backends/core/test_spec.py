import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backends import (
    FULL_PRECISION,
    Activations,
    NumberFormat,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    Scheme,
    SpecError,
    parse_granularity,
)
from backends.core.serial import options_from_dict, spec_from_dict, spec_to_dict, to_jsonable
from backends.ptq._options import PtqOptions

granularities = st.one_of(st.just(PerTensor()), st.just(PerChannel()), st.integers(1, 4096).map(PerGroup))


@given(granularities)
def test_granularity_survives_its_string(granularity):
    assert parse_granularity(str(granularity)) == granularity


@given(st.text())
def test_other_strings_are_refused_in_one_sentence(text):
    assume(not re.fullmatch(r"per_tensor|per_channel|per_group:[1-9][0-9]*", text))
    with pytest.raises(SpecError, match="per_group:SIZE"):
        parse_granularity(text)


signs = st.sampled_from([None, True, False])


@given(granularities, st.integers(1, 8), signs, st.sampled_from([None, "rtn", "hqq"]), signs)
def test_spec_survives_json(granularity, bits, symmetric, method, outputs):
    given = {"symmetric": symmetric, "method": method, "outputs": outputs}
    spec = QuantSpec(Scheme.STATIC, granularity, bits, activations=Activations(4), **given)
    assert spec_from_dict(spec_to_dict(spec)) == spec


def test_words_become_members():
    spec = QuantSpec("weight_only", "per_group:64", 4, "nf4", modules=["head"], parts="encoder")
    assert spec.scheme is Scheme.WEIGHT_ONLY
    assert spec.format is NumberFormat.NF4
    assert spec.granularity == PerGroup(64)
    assert spec.modules == frozenset({"head"})
    assert spec.parts == frozenset({"encoder"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scheme": "weights"}, "weight_only"),
        ({"format": "int8"}, "fp8_e4m3"),
        ({"bits": 9}, "1 to 8"),
        ({"bits": 8, "format": "nf4"}, "nf4"),
        ({"bits": 4, "format": "mxfp8"}, "the format mxfp8 has 8"),
        ({"modules": []}, "modules is empty"),
        ({"modules": ["attention"]}, "linear, head, embedding, conv"),
        ({"activations": Activations()}, "remove activations"),
        ({"granularity": "per_group:0"}, "per_group"),
        ({"outputs": True}, "choose scheme static"),
        ({"outputs": "yes"}, "true or false"),
    ],
)
def test_contradictions_name_the_mend(change, named):
    values = {"scheme": "weight_only", "granularity": "per_channel", "bits": 4, **change}
    with pytest.raises(SpecError, match=named):
        QuantSpec(**values)


def test_full_precision_is_a_spec():
    assert FULL_PRECISION.scheme is Scheme.NONE
    assert FULL_PRECISION.bits == 32


def test_an_option_that_came_later_leaves_stored_text_as_it_was():
    assert "allot_by" not in to_jsonable(PtqOptions())
    assert to_jsonable(PtqOptions(allot_by="states"))["allot_by"] == "states"
    assert options_from_dict(PtqOptions, to_jsonable(PtqOptions())) == PtqOptions()
