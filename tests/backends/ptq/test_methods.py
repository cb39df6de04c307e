"""What each method promises of one layer, and of statistics."""

from dataclasses import replace

import pytest
import torch

from backends import PerChannel, PerGroup
from backends.ptq import methods
from backends.ptq._codes import grid
from backends.ptq._linear import QuantizedLinear, Shape, Transform
from backends.ptq._method import Needs
from backends.ptq._quantize import before, joined, quantized, transformed
from backends.ptq._statistics import SAMPLE, Accumulator
from backends.ptq.awq import METHOD as AWQ
from backends.ptq.awq import scaling
from backends.ptq.gptaq import METHOD as GPTAQ
from backends.ptq.gptq import METHOD as GPTQ
from backends.ptq.quarot import METHOD as QUAROT
from backends.ptq.rtn import METHOD as RTN
from backends.ptq.smoothquant import METHOD as SMOOTHQUANT
from backends.ptq.spqr import METHOD as SPQR
from tests.backends.ptq.problems import inputs_of, layer_of, loss, problem, request

LAYERWISE = {
    "rtn": RTN, "gptq": GPTQ, "gptaq": GPTAQ, "awq": AWQ, "smoothquant": SMOOTHQUANT, "quarot": QUAROT, "spqr": SPQR,
}  # fmt: skip


def exact_problem(seed=0, drift=0.5):
    """A layer whose inputs have drifted from full precision's."""
    full = inputs_of(64, seed)
    noise = torch.randn(full.shape, generator=torch.Generator().manual_seed(seed + 7)) @ torch.diag(full.std(0))
    mixed = full @ (torch.eye(64) + drift * torch.randn(64, 64, generator=torch.Generator().manual_seed(5)) / 8)
    inputs = mixed + 0.2 * noise
    return layer_of(problem().weight, inputs, full), inputs, full


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (SMOOTHQUANT, {}),
        (SMOOTHQUANT, {"smooth": 0.5}),
        (SMOOTHQUANT, {"smooth": 0.5, "rotate": True}),
        (QUAROT, {}),
        (QUAROT, {"smooth": 0.7}),
        (GPTQ, {"rotate": True}),
        (AWQ, {}),
        (AWQ, {"smooth": 0.6}),
    ],
)
def test_transforms_are_exact_before_rounding(method, options):
    layer, asked = problem(), request(8, method=method, **options)
    first = before(layer, asked)
    changed = transformed(layer, first)
    whole = joined(first, method.transform(changed, asked))
    weight = transformed(changed, method.transform(changed, asked)).weight
    inputs = inputs_of(64, 9, tokens=20)
    assert whole != Transform()
    assert torch.allclose(weight @ whole.of_input(torch.eye(64)).T, layer.weight, atol=1e-5)
    assert torch.allclose(whole.of_input(inputs) @ weight.T, inputs @ layer.weight.T, atol=1e-4)
    module = quantized(layer, asked, None)
    assert (module.original_weight() - layer.weight).norm() < 0.02 * layer.weight.norm()


def test_smoothquant_levels_the_inputs():
    layer = problem()
    scaled = transformed(layer, SMOOTHQUANT.transform(layer, request(8)))
    spread = [float(known.largest.max() / known.largest.median()) for known in (layer.known, scaled.known)]
    assert spread[1] < 0.5 * spread[0]


def test_statistics_follow_a_transform():
    inputs = inputs_of(64, 0, tokens=300)
    layer = layer_of(problem().weight, inputs)
    for change in (Transform(torch.linspace(0.5, 3, 64)), Transform(None, True), Transform(torch.rand(64) + 1, True)):
        changed = layer_of(layer.weight, change.of_input(inputs)).known
        followed = layer.known.transformed(change)
        assert torch.allclose(followed.second, changed.second, atol=1e-3)
        assert torch.allclose(followed.sample, changed.sample, atol=1e-4)
        if not change.rotated:
            assert torch.allclose(followed.mean, changed.mean, rtol=1e-4)


@pytest.mark.parametrize("granularity", [PerChannel(), PerGroup(16)], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_awq_is_never_worse_than_exponent_zero(bits, granularity):
    gained = 0
    for seed in range(5):
        layer, asked = problem(seed=seed), request(bits, granularity)
        scale = AWQ.transform(layer, asked).scale
        scale = torch.ones(64) if scale is None else scale
        found = grid(layer.weight * scale, asked.code).rounded(layer.weight * scale) / scale
        plain = grid(layer.weight, asked.code).rounded(layer.weight)
        assert loss(layer, found) <= loss(layer, plain)
        gained += loss(layer, found) < 0.9 * loss(layer, plain)
    assert gained
    assert torch.allclose(scaling(layer, 0.0), torch.ones(64))


@pytest.mark.parametrize("bits", [3, 4])
def test_gptaq_is_nearer_to_what_full_precision_puts_out(bits):
    def apart(method, layer, inputs, full):
        asked = request(bits, damping=0.01)
        return float((full @ layer.weight.T - inputs @ method.solve(layer, asked).weight.T).square().sum())

    for seed in range(4):
        drifted = exact_problem(seed)
        assert apart(GPTAQ, *drifted) < 0.98 * apart(GPTQ, *drifted)


def test_gptaq_without_drift_is_gptq():
    inputs = inputs_of(64, 0)
    layer = layer_of(problem().weight, inputs, inputs)
    assert torch.equal(GPTAQ.solve(layer, request(3)).codes, GPTQ.solve(layer, request(3)).codes)


@pytest.mark.parametrize("method", ["rtn", "gptq", "spqr"])
def test_a_correction_of_low_rank_lowers_the_loss_with_every_rank(method):
    layer = problem()
    losses = [
        loss(layer, quantized(layer, request(3, method=LAYERWISE[method], low_rank=rank), None).weight)
        for rank in (0, 1, 4, 16)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < 0.7 * losses[0]


def test_no_other_correction_of_the_same_rank_is_better():
    from backends.ptq._low_rank import compensated

    layer = problem()
    solution = RTN.solve(layer, request(2))
    corrected = compensated(solution, layer, 4)
    best = loss(layer, corrected.weight)
    generator = torch.Generator().manual_seed(0)
    up, down = corrected.low_rank.up.float(), corrected.low_rank.down.float()
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(20):
            left = up + size * up.std() * torch.randn(up.shape, generator=generator)
            right = down + size * down.std() * torch.randn(down.shape, generator=generator)
            assert loss(layer, solution.weight + left @ right) > 0.999 * best
    truncated = torch.linalg.svd(layer.weight - solution.weight)
    plain = truncated.U[:, :4] * truncated.S[:4] @ truncated.Vh[:4]
    assert best < loss(layer, solution.weight + plain)


@pytest.mark.parametrize("name", LAYERWISE)
def test_methods_are_deterministic_and_leave_the_layer_alone(name):
    results = []
    for _ in range(2):
        layer = exact_problem()[0]
        weight = layer.weight.clone()
        module = quantized(layer, request(3, PerGroup(16), method=LAYERWISE[name]), None)
        assert torch.equal(layer.weight, weight)
        results.append(dict(module.named_buffers()))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(tensor, results[1][key]) for key, tensor in results[0].items())


@pytest.mark.parametrize("name", methods())
def test_every_method_says_what_it_needs(name):
    from importlib import import_module

    method = import_module(f"backends.ptq.{name}").METHOD
    assert method.needs in Needs
    assert name in LAYERWISE or method.needs is Needs.BLOCK


@pytest.mark.parametrize("scale_bits", [2, 3, 5, 16])
def test_a_packed_layer_computes_with_what_was_solved(scale_bits):
    layer, asked = problem(), request(3, PerGroup(16), scale_bits=scale_bits)
    solution = SPQR.solve(layer, asked)
    module = QuantizedLinear.of(solution, Transform(), Shape(48, 64, asked.code), None)
    assert torch.equal(module.weight, solution.weight)
    restored = QuantizedLinear(Shape(48, 64, asked.code), dict(module.named_buffers()), False)
    assert torch.equal(restored.weight, solution.weight)
    scales = 3 * 4 * 2 * 2 + 48 * 4 * scale_bits // 8 if scale_bits < 16 else 48 * 4 * 2
    stored = sum(tensor.nbytes for tensor in module.buffers())
    assert stored == 48 * 64 * 3 // 8 + 48 * 4 * 3 // 8 + scales + 6 * len(solution.outliers.index)


def test_statistics_are_means_over_tokens_and_any_number_of_batches():
    inputs = inputs_of(64, 0, tokens=3000)
    whole, parts = Accumulator(64), Accumulator(64)
    whole.add(inputs)
    for part in inputs.split(77):
        parts.add(part)
    parts.add(torch.zeros(0, 64))
    one, other = whole.statistics(), parts.statistics()
    assert one.count == other.count == 3000
    assert torch.allclose(one.second, inputs.T @ inputs / 3000, atol=1e-3)
    for name in ("second", "largest", "mean"):
        assert torch.allclose(getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-3)
    assert len(one.sample) <= SAMPLE
    assert len(other.sample) <= SAMPLE
    error = torch.randn(3, 64)
    assert one.loss(error) == pytest.approx(float((inputs @ error.T).square().sum(1).mean()), rel=1e-3)


def test_the_drift_is_full_precision_minus_what_is_there():
    layer, inputs, full = exact_problem()
    expected = (full - inputs).T @ inputs / len(inputs)
    assert torch.allclose(layer.known.cross, expected, atol=1e-3)
    turned = layer.known.transformed(Transform(None, True))
    of = Transform(None, True).of_input
    assert torch.allclose(turned.cross, (of(full) - of(inputs)).T @ of(inputs) / len(inputs), atol=1e-3)
    assert replace(layer.known, cross=None).transformed(Transform(None, True)).cross is None
