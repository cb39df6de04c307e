"""An additive model over the whole, unbalanced grid, and warnings where it cannot tell factors apart.

The cost of a cell, its WER minus its baseline's, is a sum of one term for every factor's level. This uses
every cell, not only matched ones, and pays with an assumption: that factors do not interact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.effects import Outcome, contrast, levels_of, matched, varying
from harness.stats.resampling import Values

_ZERO = 1e-8


@dataclass(frozen=True)
class Term:
    """What a level adds instead of the base level, in WER (a fraction).

    Attributes:
        factor, base, level: as of an `Effect`.
        difference, low, high: NaN where it cannot be estimated.
        confounded_with: factors that it cannot be told apart from; no number is given then.
        only_with: levels of other factors that all cells of this level share, and not all of the others.
        matched: whether there is a matched pair of the two levels; without one the number rests on the
            assumption alone that factors do not interact.
    """

    factor: str
    base: str
    level: str
    difference: float
    low: float
    high: float
    confounded_with: tuple[str, ...]
    only_with: tuple[str, ...]
    matched: bool


@dataclass(frozen=True)
class Additive:
    """The model of one split.

    Attributes:
        split: of its cells.
        cells: how many.
        terms: of every level but the base of every factor.
        residual: standard deviation of what they leave, in WER; NaN without degrees of freedom.
        freedom: degrees of freedom that the terms leave; with 0 nothing checks the model.
    """

    split: str
    cells: int
    terms: tuple[Term, ...]
    residual: float
    freedom: int


def additive(outcomes: Sequence[Outcome], split: str) -> Additive | None:
    """Fit the model to all cells of `split`; `None` where there are fewer than two, or no factor varies.

    Ordinary least squares (statsmodels). Intervals are bootstrapped over speakers, the same speakers in all cells.
    """
    import statsmodels.api as sm

    own = [o for o in outcomes if o.split == split]
    factors = varying(own)
    if len(own) < 2 or not factors:
        return None
    columns = [(f, level) for f in factors for level in levels_of(own, f)[1:]]
    design = np.array([[1.0, *(o.factors.get(f) == level for f, level in columns)] for o in own])
    costs = np.array([(o.errors - o.baseline_errors).sum() / o.words.sum() for o in own])
    basis, circuits = _dependence(design)
    fit = sm.OLS(costs, design[:, basis]).fit()
    weights = dict(zip(basis, fit.model.pinv_wexog, strict=True))
    pairs = matched(own)
    terms = tuple(_term(columns, i, own, weights.get(i + 1), circuits, pairs) for i in range(len(columns)))
    residual = float(np.sqrt(fit.scale)) if fit.df_resid >= 1 else math.nan
    return Additive(split, len(own), terms, residual, int(fit.df_resid))


def _dependence(design: Values) -> tuple[list[int], list[set[int]]]:
    """The first columns that determine all others; and by each other one the few columns that it is a combination of.

    Columns are taken in their order, not by size, so that ties are not decided by the rounding of a machine.
    """
    basis: list[int] = []
    for column in range(design.shape[1]):
        if np.linalg.matrix_rank(design[:, [*basis, column]]) > len(basis):
            basis.append(column)
    rest = [column for column in range(design.shape[1]) if column not in basis]
    multiples = np.linalg.lstsq(design[:, basis], design[:, rest], rcond=None)[0]
    circuits = [
        {column, *np.array(basis)[np.abs(weights) > _ZERO].tolist()}
        for column, weights in zip(rest, multiples.T, strict=True)
    ]
    return basis, circuits


def _term(
    columns: Sequence[tuple[str, str]],
    index: int,
    outcomes: Sequence[Outcome],
    weights: Values | None,
    circuits: Sequence[set[int]],
    pairs: set[tuple[str, str, str]],
) -> Term:
    """The term of one column; `weights` are what it takes of every cell's cost."""
    factor, level = columns[index]
    base = levels_of(outcomes, factor)[0]
    only_with = _shared([o for o in outcomes if o.factors.get(factor) == level], outcomes, factor)
    confounded, matched = _confounded(columns, index, circuits), (factor, base, level) in pairs
    if confounded or weights is None:
        return Term(factor, base, level, math.nan, math.nan, math.nan, confounded, only_with, matched)
    errors = np.sum([w * (o.errors - o.baseline_errors) for w, o in zip(weights, outcomes, strict=True)], axis=0)
    difference, found = contrast([(errors, outcomes[0].words)])
    return Term(factor, base, level, difference, found.low, found.high, (), only_with, matched)


def _confounded(columns: Sequence[tuple[str, str]], index: int, circuits: Sequence[set[int]]) -> tuple[str, ...]:
    """Factors whose terms can stand in for the term `index`; none where its value is unique."""
    entangled = {column for circuit in circuits if index + 1 in circuit for column in circuit}
    factors = [columns[column - 1][0] for column in sorted(entangled - {0, index + 1})]
    return tuple(dict.fromkeys(f for f in factors if f != columns[index][0]))


def _shared(own: Sequence[Outcome], outcomes: Sequence[Outcome], factor: str) -> tuple[str, ...]:
    """Levels of other varying factors that all of `own` have, and not all of the others."""
    found = []
    for other in varying(outcomes):
        levels = {o.factors.get(other) for o in own}
        if other != factor and len(levels) == 1 and any(o.factors.get(other) not in levels for o in outcomes):
            found.append(f"{other}={levels.pop() or 'none'}")
    return tuple(found)
