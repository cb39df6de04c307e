"""GPTQ and SpQR as solvers of min ||W X - W' X||^2 over codes."""

import itertools
from dataclasses import replace

import pytest
import torch

from backends import PerChannel, PerGroup, PerTensor
from backends.ptq._codes import grid
from backends.ptq._linear import Solution
from backends.ptq.gptq import METHOD as GPTQ
from backends.ptq.gptq import inverse_factor, round_columns
from backends.ptq.rtn import METHOD as RTN
from backends.ptq.spqr import METHOD as SPQR
from backends.ptq.spqr import MOST, reduction
from tests.backends.ptq.problems import inputs_of, layer_of, loss, problem, request

GRANULARITIES = [PerTensor(), PerChannel(), PerGroup(16)]


def exhaustive(layer, own):
    """The least loss over all codes, row by row."""
    columns = layer.weight.shape[1]
    choices = torch.tensor(list(itertools.product(range(2**own.bits), repeat=columns)), dtype=torch.float32)
    least = 0.0
    for row in range(len(layer.weight)):
        line = replace(own, scale=own.scale[row : row + 1], zero=own.zero[row : row + 1])
        error = (choices - line.zero) * line.scale.float() - layer.weight[row]
        least += float(torch.einsum("ni,ij,nj->n", error, layer.known.second, error).min())
    return least


@pytest.mark.parametrize("seed", range(12))
def test_within_twice_the_best_of_all_roundings_and_below_the_nearest(seed):
    layer = problem(rows=8, columns=5, seed=seed)
    asked = request(3, damping=0.0)
    found = loss(layer, GPTQ.solve(layer, asked).weight)
    best = exhaustive(layer, grid(layer.weight, asked.code))
    assert best <= found * 1.0001
    assert found <= 2 * best
    assert found < loss(layer, RTN.solve(layer, asked).weight)


def test_the_best_of_all_roundings_where_inputs_are_independent():
    weight = problem(rows=8, columns=6).weight
    layer = layer_of(weight, torch.diag(torch.tensor([1.0, 5, 2, 3, 1, 4])))
    own = grid(weight, request(2).code)
    assert loss(layer, GPTQ.solve(layer, request(2)).weight) == pytest.approx(exhaustive(layer, own), rel=1e-5)


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_never_worse_than_rounding_to_nearest(bits, granularity, act_order):
    for seed in range(5):
        layer = problem(seed=seed)
        asked = request(bits, granularity, act_order=act_order)
        assert loss(layer, GPTQ.solve(layer, asked).weight) < loss(
            layer, RTN.solve(layer, request(bits, granularity)).weight
        )


@pytest.mark.parametrize("block_size", [1, 7, 64, 500])
@pytest.mark.parametrize("act_order", [True, False])
def test_blocks_are_a_matter_of_speed_alone(block_size, act_order):
    layer = problem()
    codes = [GPTQ.solve(layer, request(4, act_order=act_order, block_size=size)).codes for size in (block_size, 128)]
    assert (codes[0] != codes[1]).float().mean() < 0.005


def test_fewer_tokens_than_channels():
    layer = layer_of(problem().weight, inputs_of(64, 0, tokens=9))
    for damping in (0.0, 0.01):
        found = GPTQ.solve(layer, request(3, damping=damping))
        assert torch.isfinite(found.weight).all()
        assert loss(layer, found.weight) < 0.2 * loss(layer, RTN.solve(layer, request(3)).weight)


def test_channels_without_input_are_rounded_to_nearest():
    inputs = inputs_of(64, 0)
    inputs[:, 5:9] = 0
    layer = layer_of(problem().weight, inputs)
    found, plain = GPTQ.solve(layer, request(3)), RTN.solve(layer, request(3))
    assert torch.equal(found.codes[:, 5:9], plain.codes[:, 5:9])
    assert loss(layer, found.weight) < loss(layer, plain.weight)


def test_no_input_at_all():
    layer = layer_of(problem().weight, torch.zeros(10, 64))
    assert torch.equal(GPTQ.solve(layer, request(3)).codes, RTN.solve(layer, request(3)).codes)


def test_the_factor_is_the_inverse_s():
    second = problem().known.second
    upper = inverse_factor(second, 0.0)
    assert torch.equal(upper, upper.triu())
    assert torch.allclose(upper.T @ upper @ second, torch.eye(64), atol=1e-2)


@pytest.mark.parametrize("scale_bits", [3, 16])
@pytest.mark.parametrize("granularity", [PerChannel(), PerGroup(16)], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_spqr_is_never_worse_than_gptq_on_its_own_grid(bits, granularity, scale_bits):
    for seed in range(5):
        layer = problem(seed=seed)
        asked = request(bits, granularity, scale_bits=scale_bits)
        found = SPQR.solve(layer, asked)
        without = Solution(round_columns(layer, found.grid, asked.options), found.grid)
        assert loss(layer, found.weight) <= loss(layer, without.weight)


@pytest.mark.parametrize("bits", [2, 3])
def test_spqr_finds_the_outliers_and_gains_by_them(bits):
    layer = problem()
    far = [(3, 5), (3, 40), (20, 11), (40, 63)]
    for row, column in far:
        layer.weight[row, column] = 0.5
    found = SPQR.solve(layer, request(bits, PerGroup(16)))
    kept = {divmod(int(index), 64) for index in found.outliers.index}
    assert kept >= set(far)
    assert len(kept) <= MOST * layer.weight.numel()
    assert torch.equal(found.outliers.index, found.outliers.index.sort().values)
    assert loss(layer, found.weight) < 0.9 * loss(layer, GPTQ.solve(layer, request(bits, PerGroup(16))).weight)


def test_spqr_with_a_high_threshold_keeps_nothing_apart():
    layer = problem()
    found = SPQR.solve(layer, request(3, scale_bits=16, outlier_threshold=1e9))
    assert found.outliers is None
    assert torch.equal(found.codes, GPTQ.solve(layer, request(3)).codes)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", [PerChannel(), PerGroup(4)], ids=str)
def test_leaving_one_out_is_what_rounding_the_rest_anew_gives(granularity, symmetric):
    layer = problem(rows=4, columns=8)
    sensitivity = torch.linspace(0.5, 2, 8)
    code = request(3, granularity, symmetric).code
    gain = reduction(layer.weight, sensitivity, code)
    size = 8 if granularity == PerChannel() else 4
    for row, column in itertools.product(range(4), range(8)):
        group = slice(column // size * size, column // size * size + size)
        whole = layer.weight[row : row + 1, group]
        rest = whole.clone()
        rest[0, column % size] = 0
        own = replace(code, granularity=PerChannel())
        errors = [
            ((grid(kept, own).rounded(kept) - kept) ** 2 / sensitivity[group] ** 2).sum() for kept in (whole, rest)
        ]
        assert float(gain[row, column]) == pytest.approx(float(errors[0] - errors[1]), abs=1e-7)
