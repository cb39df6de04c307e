"""How much the effect of one factor changes with the split, the bits or the condition: matched pairs of pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from harness.stats.effects import Effect, Outcome, context_of, effect_of, pairs_of, rank_of, samples_of, varying


def interactions(outcomes: Sequence[Outcome]) -> list[Effect]:
    """How much an effect changes with the split, with the bits, and with the condition, all else equal.

    Splits are independent samples; two that have speakers in common are left out. The conditions of one test set have
    the same speakers, who are resampled together.
    """
    return [*_with_split(outcomes), *_within(outcomes, "bits"), *_within(outcomes, "condition")]


def _with_split(outcomes: Sequence[Outcome]) -> Iterator[Effect]:
    by_split = _by_split(outcomes)
    for one, other in itertools.combinations(by_split, 2):
        if by_split[one][0].speakers & by_split[other][0].speakers:
            continue
        for factor in varying(outcomes):
            theirs = pairs_of(by_split[other], factor)
            for levels, pairs in pairs_of(by_split[one], factor).items():
                matches = {context_of(a, ()): (a, b) for a, b in theirs.get(levels, [])}
                both = [
                    (pair, matches[context_of(pair[0], ())]) for pair in pairs if context_of(pair[0], ()) in matches
                ]
                if both:
                    halves = [[first for first, _ in both], [second for _, second in both]]
                    yield effect_of(factor, *levels, f"{one}, {other}", f"split: {one} to {other}", halves)


def _within(outcomes: Sequence[Outcome], other: str) -> Iterator[Effect]:
    """How much effects change from one level of `other` to another; bits within conditions, not the same twice."""
    for sample in samples_of(outcomes, other):
        for factor in (f for f in varying(sample) if f not in (other, "condition")):
            for levels, pairs in pairs_of(sample, factor).items():
                by_level: dict[str, dict[Any, tuple[Outcome, Outcome]]] = {}
                for a, b in pairs:
                    by_level.setdefault(a.factors.get(other, ""), {})[context_of(a, (other,))] = (a, b)
                for base, level in itertools.combinations(sorted(by_level, key=rank_of), 2):
                    common = [c for c in by_level[base] if c in by_level[level]]
                    if common:
                        halves = [[by_level[one][c] for c in common] for one in (base, level)]
                        splits = ", ".join(dict.fromkeys(half[0][0].split for half in halves))
                        yield effect_of(factor, *levels, splits, f"{other}: {base} to {level}", halves)


def _by_split(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.split, []).append(outcome)
    return found
