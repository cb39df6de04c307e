import pytest
import torch

from backends import NumberFormat, PerChannel, PerGroup, PerTensor
from backends.core.codes import WeightCode
from backends.ptq._codes import clipped_grid, grid, grouped
from backends.ptq._second_level import SecondLevel
from backends.reference import fake_quantize
from tests.backends.ptq.problems import PER_CHANNEL, problem

GRANULARITIES = [PerTensor(), PerChannel(), PerGroup(16)]


def code(bits, granularity=PER_CHANNEL, symmetric=False):
    return WeightCode(bits, NumberFormat.INT, granularity, symmetric)


def with_scales_that_half_precision_has(weight, own):
    """`weight` stretched so that the scale of every group is 1/64."""
    groups = grouped(weight, own)
    largest = max(2 ** (own.bits - 1) - 1, 1)
    if own.symmetric:
        return (groups / groups.abs().amax(2, keepdim=True) * largest / 64).reshape(weight.shape)
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    return (((groups - low) / (high - low) * (2**own.bits - 1) - 2 ** (own.bits - 1)) / 64).reshape(weight.shape)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("bits", range(2, 9))
def test_rounding_is_the_reference_s_where_the_scale_is_a_float16(bits, granularity, symmetric):
    own = code(bits, granularity, symmetric)
    weight = with_scales_that_half_precision_has(problem().weight, own)
    apart = (grid(weight, own).rounded(weight) - fake_quantize(weight, own)).abs() > 1e-6
    assert apart.float().mean() < 0.002


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_any_other_scale_is_one_part_in_a_thousand_off(bits):
    weight = problem().weight
    ours, reference = grid(weight, code(bits)).rounded(weight), fake_quantize(weight, code(bits))
    assert float((ours - weight).norm()) == pytest.approx(float((reference - weight).norm()), rel=0.02)


@pytest.mark.parametrize("bits", range(2, 9))
def test_zero_is_always_among_the_values(bits):
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(8, 32, generator=generator) + torch.tensor([3.0, -5.0] * 4)[:, None]
    weight[0] = 0
    for symmetric in (True, False):
        own = grid(weight, code(bits, symmetric=symmetric))
        zeros = torch.zeros_like(weight)
        assert torch.equal(own.rounded(zeros), zeros)
        assert torch.isfinite(own.rounded(weight)).all()


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("weighted", [True, False])
def test_a_searched_range_is_never_worse_in_any_group(granularity, weighted):
    layer = problem(seed=3)
    importance = layer.known.second.diagonal() if weighted else torch.ones(64)
    for bits in (2, 3, 5, 8):
        own = code(bits, granularity)
        plain, searched = (
            grouped((found.rounded(layer.weight) - layer.weight) ** 2 * importance, own).sum(2)
            for found in (grid(layer.weight, own), clipped_grid(layer.weight, own, importance))
        )
        assert (searched <= plain).all()
        assert bits > 3 or searched.sum() < plain.sum()


@pytest.mark.parametrize("rows", [48, 50])
@pytest.mark.parametrize("bits", [2, 3, 6])
def test_scales_of_few_bits_are_near_and_survive_storing(rows, bits):
    own = grid(problem(rows).weight, code(3, PerGroup(16)))
    coarse = own.with_second_level(bits)
    assert coarse.second is not None
    spread = own.scale.float().amax(0) - own.scale.float().amin(0)
    assert ((coarse.scale - own.scale).abs() <= spread / (2**bits - 1) / 2 * 1.01 + 1e-4).all()
    restored = SecondLevel.restored(coarse.second.tensors(), rows)
    assert restored.bits == bits
    assert torch.equal(restored.values, coarse.scale)
    assert sum(t.nbytes for t in coarse.second.tensors().values()) < own.scale.nbytes


def test_scales_of_many_bits_are_as_good_as_float16():
    weight = problem().weight
    own = grid(weight, code(3, PerGroup(16)))
    fine = own.with_second_level(8)
    errors = [float((scales.rounded(weight) - weight).norm()) for scales in (fine, own)]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)
