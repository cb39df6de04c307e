"""Which options are refused, and in which words."""

import pytest

from backends import PerChannel, PerGroup, PerTensor, QuantSpec, Scheme, Supported, Unsupported, capability, quantize
from backends.core.errors import ModelError
from backends.ptq import methods
from tests.conftest import build_whisper


def answer(method, bits=4, granularity=PerChannel(), **options):  # noqa: B008
    return capability(QuantSpec(Scheme.WEIGHT_ONLY, granularity, bits, method=method), "ptq", options)


@pytest.mark.parametrize("method", methods())
def test_every_method_takes_its_defaults(method):
    assert isinstance(answer(method), Supported)


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("gptq", {"damping": -0.1}, "damping is -0.1; it must be 0 or more"),
        ("gptq", {"damping": float("nan")}, "damping is nan"),
        ("gptq", {"block_size": 0}, "block_size is 0; it must be 1 or more"),
        ("rtn", {"low_rank": -1}, "low_rank is -1"),
        ("rtn", {"smooth": 1.5}, "smooth is 1.5; it must be from 0 to 1"),
        ("awq", {"search_steps": 0}, "search_steps is 0"),
        ("omniquant", {"epochs": -1}, "epochs is -1"),
        ("omniquant", {"learning_rate": -1.0}, "learning_rate is -1.0"),
        ("spqr", {"outlier_threshold": -1.0}, "outlier_threshold is -1.0"),
        ("spqr", {"scale_bits": 1}, "scale_bits is 1; it must be from 2 to 16"),
        ("rtn", {"damping": 0.1}, "damping is not used by method rtn"),
        ("rtn", {"act_order": False}, "act_order is not used by method rtn"),
        ("gptq", {"search_steps": 5}, "search_steps is not used by method gptq"),
        ("gptq", {"scale_bits": 4}, "scale_bits is not used by method gptq"),
        ("smoothquant", {"epochs": 5}, "epochs is not used by method smoothquant"),
        ("awq", {"rotate": True}, "a rotation before it"),
        ("awq", {"clip": True}, "searches the range already"),
        ("tesseraq", {"clip": True}, "searches the range already"),
        ("smoothquant", {"rotate": True}, "set smooth"),
        ("quarot", {"rotate": True}, "rotates already"),
        ("gptq", {"target_bits": 3.0}, "bits are 4"),
        ("gptq", {"allot_by": "states"}, "allot_by wants bits left out"),
    ],
)
def test_options_that_do_not_go_with_the_method(method, options, reason):
    refused = answer(method, **options)
    assert isinstance(refused, Unsupported)
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("gptq", {}, "exactly one of target_bits and target_size_mb"),
        ("gptq", {"target_bits": 3.0, "allot_by": "stats"}, "allot_by is 'stats'; it must be likelihood or states"),
        ("gptq", {"target_bits": 3.0, "target_size_mb": 1.0}, "exactly one"),
        ("spqr", {"target_bits": 3.0}, "outliers"),
        ("omniquant", {"target_bits": 3.0}, "block together"),
    ],
)
def test_bits_are_left_out_for_one_target_only(method, options, reason):
    refused = answer(method, None, **options)
    assert isinstance(refused, Unsupported)
    assert reason in refused.reason
    assert isinstance(answer("gptq", None, target_bits=3.0), Supported)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"granularity": PerChannel()}, "nvfp4 has one scale for 16 weights: use per_group:16"),
        ({"granularity": PerGroup(32)}, "nvfp4 has one scale for 16 weights: use per_group:16"),
        ({"format": "mxfp4"}, "mxfp4 has one scale for 32 weights: use per_group:32"),
        ({"format": "mxfp8", "bits": 8, "granularity": PerTensor()}, "use per_group:32"),
        ({"symmetric": False}, "nvfp4 has no zero points: leave symmetric out"),
        ({"bits": None}, "nvfp4 has 4 bits in every layer: set bits = 4"),
        ({"method": "omniquant"}, "omniquant learns scales by their gradients"),
        ({"method": "tesseraq"}, "tesseraq chooses between neighbouring integers"),
        ({"method": "spqr"}, "spqr codes scales in a few bits"),
    ],
)
def test_block_formats_have_one_granularity_and_few_methods_do_not_go_with_them(changes, reason):
    values = {"granularity": PerGroup(16), "bits": 4, "format": "nvfp4", "method": "gptq"} | changes
    refused = capability(QuantSpec(Scheme.WEIGHT_ONLY, **values), "ptq", {"target_bits": 4.0 * (not values["bits"])})
    assert isinstance(refused, Unsupported)
    assert reason in refused.reason


def test_spqr_wants_more_than_one_scale():
    assert "per tensor" in answer("spqr", granularity=PerTensor()).reason


@pytest.mark.parametrize("options", [{"smooth": 0.5, "rotate": True}, {"rotate": True, "low_rank": 4, "clip": True}])
def test_options_combine(options):
    assert isinstance(answer("gptq", **options), Supported)
    assert isinstance(answer("smoothquant", smooth=0.5, rotate=True), Supported)


@pytest.mark.parametrize("options", [{"target_bits": 1.9}, {"target_bits": 9.0}, {"target_size_mb": 0.01}])
def test_a_budget_that_cannot_be_met_names_what_can(options, whisper_inputs):
    with pytest.raises(ModelError, match=r"bits a weight at 2 bits and 8\.\d+ at 8"):
        quantize(
            build_whisper(), "weight_only", "per_channel", None, backend="ptq", calibration=[whisper_inputs],
            options=options,
        )  # fmt: skip
