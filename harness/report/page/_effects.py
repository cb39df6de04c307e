"""Effects of single factors as a forest plot, interactions, and the additive model, with its warnings in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from harness.report.numbers import DASH, percent, points_interval
from harness.report.page._run import PageRun
from harness.stats import Additive, Effect, Term, additive, interactions

_ROOM = 4.0
"""An axis reaches so many times the usual interval; what lies beyond is drawn at its edge."""


@dataclass(frozen=True)
class Bar:
    """Where an effect lies on the axis, in per cent of its width; what was cut ends in an arrow."""

    low: float
    middle: float
    high: float
    cut_low: bool
    cut_high: bool
    outside: bool


@dataclass(frozen=True)
class ForestRow:
    """One effect: its words and its bar."""

    factor: str
    change: str
    pairs: int
    text: str
    clear: bool
    bar: Bar


@dataclass(frozen=True)
class Forest:
    """The effects of one split on one axis."""

    split: str
    rows: tuple[ForestRow, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class TermRow:
    """One term of the additive model, with what must be known of it."""

    factor: str
    change: str
    text: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """The additive model of one split."""

    split: str
    cells: int
    estimated: int
    freedom: int
    residual: str
    terms: tuple[TermRow, ...]


@dataclass(frozen=True)
class EffectsSection:
    """All that the section shows; everything may be empty."""

    forests: tuple[Forest, ...]
    unmatched: tuple[str, ...]
    interactions: tuple[tuple[str, str, str, str, int, str], ...]
    models: tuple[Model, ...]


def effects_section(run: PageRun) -> EffectsSection:
    """Effects, interactions and the additive models of the run's finished cells."""
    outcomes = run.study.outcomes
    found = run.study.effects
    fitted = [additive(outcomes, split) for split in run.splits]
    return EffectsSection(
        tuple(_forest(split, own) for split in run.splits if (own := [e for e in found if e.split == split])),
        tuple(run.study.unmatched),
        tuple((e.factor, _change(e), e.within, e.split, e.pairs, _text(e)) for e in interactions(outcomes)),
        tuple(_model(model) for model in fitted if model is not None),
    )


def _forest(split: str, found: Sequence[Effect]) -> Forest:
    limit = _limit(found)
    rows = tuple(ForestRow(e.factor, _change(e), e.pairs, _text(e), e.is_clear, _bar(e, limit)) for e in found)
    return Forest(split, rows, tuple(_ticks(limit)))


def _ticks(limit: float) -> Iterator[tuple[float, str]]:
    """Round values, about two on either side of zero: their places and texts."""
    power = 10 ** math.floor(math.log10(limit / 2))
    step = power * max(lead for lead in (1, 2, 5) if lead * power <= limit / 2)
    digits = max(0, -math.floor(math.log10(step * 100) + 1e-9))
    for count in range(-int(limit / step), int(limit / step) + 1):
        yield _place(count * step, limit), percent(count * step, digits, sign=True)


def _limit(found: Sequence[Effect]) -> float:
    """Half the width of the axis, a fraction: the widest interval that is not far wider than is usual."""
    reaches = [max(abs(end) for end in (e.low, e.difference, e.high) if end == end) for e in found]
    usual = [reach for reach in reaches if reach <= _ROOM * median(reaches)]
    return max(usual) * 1.05 or 0.001


def _bar(effect: Effect, limit: float) -> Bar:
    ends = (effect.low, effect.difference, effect.high)
    low, middle, high = (_place(effect.difference if end != end else end, limit) for end in ends)
    return Bar(low, middle, high, effect.low < -limit, effect.high > limit, abs(effect.difference) > limit)


def _place(value: float, limit: float) -> float:
    return round(50 + 50 * max(-1.0, min(1.0, value / limit)), 2)


def _change(effect: Effect | Term) -> str:
    return f"{effect.base} → {effect.level}"


def _text(effect: Effect | Term) -> str:
    return points_interval(effect.difference, effect.low, effect.high)


def _model(model: Additive) -> Model:
    terms = tuple(TermRow(t.factor, _change(t), _text(t), _warnings(t)) for t in model.terms)
    estimated = sum(not t.confounded_with for t in model.terms)
    return Model(model.split, model.cells, estimated, model.freedom, percent(model.residual), terms)


def _warnings(term: Term) -> tuple[str, ...]:
    found = []
    if term.confounded_with:
        found.append(f"cannot be told apart from {', '.join(term.confounded_with)}")
    elif _text(term) == DASH:
        found.append("cannot be estimated")
    elif not term.matched:
        found.append("no matched pair: rests on the assumption that factors do not interact")
    if term.only_with:
        found.append(f"only with {', '.join(term.only_with)}")
    return tuple(found)
