"""Bits allotted to layers under a budget: where calibration shows that rounding hurts, a layer gets more.

Every layer is quantized alone, by the method that will quantize them all, at every width; what that does to the
model's answers is estimated to second order (`_sensitivity.py`), and harms are taken to add up (Dong et al. 2019,
arXiv 1911.03852, section 3). The least total harm that fits is a multiple-choice knapsack, solved exactly.

`allot_by = "states"` judges layers of the encoder by the encoder's states instead. The two halves' harms then have no
unit in common: each half counts in units of what its own layers do to it together at `WIDEST_ROUNDED` bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from backends.core.base import CalibrationInput
from backends.core.codes import PerGroup, PerTensor, WeightCode
from backends.core.errors import ModelError
from backends.core.report import size_bytes
from backends.core.rest import bytes_saved
from backends.core.selection import Candidate
from backends.core.spec import Part, QuantSpec, Rest
from backends.ptq._engine import Engine, as_input
from backends.ptq._method import Layer, Request
from backends.ptq._options import PtqOptions
from backends.ptq._packing import packed_bytes
from backends.ptq._quantize import needs_of, quantized
from backends.ptq._sensitivity import Matrix, expected_harm, expected_state_error

WIDTHS = (2, 3, 4, 5, 6, 8)
WIDEST_ROUNDED = 4
_FRONTIER = (2.5, 3, 3.5, 4, 5, 6, 8)


@dataclass(frozen=True)
class Asked:
    """A spec without bits, its options, and the method that it names."""

    spec: QuantSpec
    options: PtqOptions
    method: Any

    def at(self, width: int) -> Request:
        """The request at a width of its own."""
        return Request(code_of(self.spec, width), self.spec.activations, self.options, self.method)


@dataclass(frozen=True)
class Allotment:
    """A code for every layer, and what it is expected to do.

    Attributes:
        codes: by the layer's name.
        note: the frontier of budgets and expected harm, in a line.
    """

    codes: dict[str, WeightCode]
    note: str


@dataclass(frozen=True)
class _Menu:
    """What the layers may choose from: stored bits and harm of every width, (layers, widths), in order of the names."""

    names: Sequence[str]
    weights: int
    bits: Matrix
    harm: Matrix


def code_of(spec: QuantSpec, bits: int) -> WeightCode:
    """The spec's code at a width of its own."""
    return WeightCode(bits, spec.format, spec.granularity, spec.symmetric)


def check_budget(model: nn.Module, targets: Sequence[Candidate], spec: QuantSpec, options: PtqOptions) -> None:
    """Raise `ModelError` where no choice of widths meets the target; looks at shapes alone."""
    total = sum(c.weight.numel() for c in targets)
    budget = budget_bits(model, targets, spec, options)
    least, most = (sum(layer_bits(c, code_of(spec, width), options) for c in targets) for width in (2, 8))
    if least <= budget <= most:
        return
    asked = f"target_bits = {options.target_bits:g}"
    if options.target_size_mb:
        asked = f"target_size_mb = {options.target_size_mb:g} leaves them {budget / total:.2f} bits a weight"
    raise ModelError(
        f"{asked}, but the chosen layers take {least / total:.2f} bits a weight at 2 bits and {most / total:.2f} at 8, "
        "scales included: choose a target between"
    )


def check_criterion(model: nn.Module, options: PtqOptions) -> None:
    """Raise `ModelError` where bits are allotted by states of an encoder that the model has not."""
    if options.allot_by == "states" and not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ModelError(
            f"allot_by = 'states' wants an encoder and a decoder that attends to it, and {type(model).__name__} has "
            "not both: leave allot_by out"
        )


def budget_bits(model: nn.Module, targets: Sequence[Candidate], spec: QuantSpec, options: PtqOptions) -> float:
    """Bits that the chosen layers may take together, as `LayerReport.stored_bits` counts them."""
    if options.target_bits:
        return options.target_bits * sum(c.weight.numel() for c in targets)
    scaled = options.smooth > 0 or spec.method in ("awq", "smoothquant")
    scales = 4 * sum(c.weight.shape[1] for c in targets) if scaled else 0
    return 8 * (1e6 * options.target_size_mb - _rest_bytes(model, targets, spec.rest) - scales)


def _rest_bytes(model: nn.Module, targets: Sequence[Candidate], rest: Rest) -> int:
    """Of the model without the chosen weights, stored as `rest` says.

    A head's weight stays with the embedding, unless the tie of both is chosen.
    """
    ties = [model.get_submodule(c.lookup) for c in targets if c.lookup]
    with _weights(dict.fromkeys([*(c.module for c in targets), *ties])):
        return size_bytes(model) - bytes_saved(model, rest)


def layer_bits(candidate: Candidate, code: WeightCode, options: PtqOptions) -> int:
    """Bits that a layer takes at a code: codes, scales, zero points and a low-rank correction."""
    rows, columns = candidate.weight.shape
    groups = rows
    if isinstance(code.granularity, PerTensor):
        groups = 1
    elif isinstance(code.granularity, PerGroup):
        groups = rows * columns // code.granularity.group_size
    zeros = 0 if code.symmetric else packed_bytes(groups, code.bits)
    correction = 2 * options.low_rank * (rows + columns)
    return 8 * (packed_bytes(rows * columns, code.bits) + 2 * groups + zeros + correction)


def allot(model: nn.Module, targets: Sequence[Candidate], asked: Asked, items: Sequence[Any]) -> Allotment:
    """The codes with the least expected harm within the budget; deterministic, the model stays as it is.

    Raises:
        ModelError: there are no calibration inputs.
    """
    if not items:
        raise ModelError("allotting bits needs calibration inputs: pass calibration=[...] to quantize")
    spec, options = asked.spec, asked.options
    bits = [[layer_bits(c, code_of(spec, width), options) for width in WIDTHS] for c in targets]
    menu = _Menu(
        [c.name for c in targets],
        sum(c.weight.numel() for c in targets),
        np.array(bits, float),
        _harm(model, targets, asked, [as_input(item) for item in items]),
    )
    widths = knapsack(menu.bits, menu.harm, budget_bits(model, targets, spec, options))
    codes = {name: code_of(spec, WIDTHS[width]) for name, width in zip(menu.names, widths, strict=True)}
    return Allotment(codes, _note(menu, widths))


def _harm(model: nn.Module, targets: Sequence[Candidate], asked: Asked, items: Sequence[CalibrationInput]) -> Matrix:
    """Expected harm of rounding one layer, (layers, widths), by the criterion that is asked for.

    Estimated up to `WIDEST_ROUNDED` bits. Beyond, it falls fourfold with every bit, as the squared error of
    rounding does.
    """
    changes: dict[str, list[Tensor]] = {}
    rounded_to = WIDTHS[: WIDTHS.index(WIDEST_ROUNDED) + 1]

    def keep_changes(layer: Layer) -> nn.Module:
        rounded = [quantized(layer, asked.at(width), None).original_weight() for width in rounded_to]
        changes[layer.name] = [(weight - layer.weight).half() for weight in rounded]
        return model.get_submodule(layer.name)

    Engine(model, [c.name for c in targets], needs_of(asked.at(WIDEST_ROUNDED), items), keep_changes).run(items)
    harm = np.empty((len(targets), len(rounded_to)))
    by_states = [asked.options.allot_by == "states" and c.part is Part.ENCODER for c in targets]
    for own, estimate in ((False, expected_harm), (True, expected_state_error)):
        rows = [row for row, states in enumerate(by_states) if states is own]
        if rows:
            found = estimate(model, {targets[row].name: changes[targets[row].name] for row in rows}, items)
            harm[rows] = found / found[:, -1].sum() if asked.options.allot_by == "states" else found
    wider = 0.25 ** np.array([width - WIDEST_ROUNDED for width in WIDTHS if width > WIDEST_ROUNDED])
    return np.hstack([harm, harm[:, -1:] * wider])


@contextmanager
def _weights(weights: Mapping[nn.Module, Tensor | None]) -> Iterator[None]:
    """Other weights in modules for the duration of a block of code; a tie is not followed."""
    before = {module: module._parameters["weight"] for module in weights}
    for module, weight in weights.items():
        module._parameters["weight"] = None if weight is None else nn.Parameter(weight, requires_grad=False)
    try:
        yield
    finally:
        for module, parameter in before.items():
            module._parameters["weight"] = parameter


def knapsack(bits: Matrix, harm: Matrix, budget: float) -> list[int]:
    """The column of every row with the least sum of `harm` whose `bits` sum to `budget` at most.

    >>> knapsack(np.array([[2., 4.], [2., 4.]]), np.array([[9., 1.], [3., 1.]]), 6)
    [1, 0]
    """
    rows, columns = bits.shape
    one_each = np.kron(np.eye(rows), np.ones(columns))
    fits = LinearConstraint(bits.reshape(1, -1) / budget, ub=1)
    cost = (harm / max(harm.max(), 1e-30)).reshape(-1)
    solved = milp(
        cost,
        integrality=np.ones(rows * columns),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), fits],
        options={"mip_rel_gap": 1e-6},
    )
    return [int(chosen) for chosen in solved.x.reshape(rows, columns).argmax(1)]


def _note(menu: _Menu, widths: Sequence[int]) -> str:
    """Bits a weight and expected harm, of the choice and of other budgets."""
    mean = menu.bits.sum(0) / menu.weights
    budgets = [bits for bits in _FRONTIER if mean[0] <= bits <= mean[-1]]
    frontier = ", ".join(_point(menu, knapsack(menu.bits, menu.harm, bits * menu.weights)) for bits in budgets)
    return f"bits allotted by layer: {_point(menu, widths)} (bits a weight: expected loss); frontier {frontier}"


def _point(menu: _Menu, widths: Sequence[int]) -> str:
    rows = np.arange(len(widths))
    return f"{menu.bits[rows, widths].sum() / menu.weights:.2f}: {menu.harm[rows, widths].sum():.3g}"
