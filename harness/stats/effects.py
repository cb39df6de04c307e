"""What one factor does when all others are held: matched pairs of cells, and pairs of pairs for interactions.

A factor is a field of the spec, an option of a library, the library, the model, or the condition of the speech. Two
cells are matched for a factor if they agree in every other one; rows that differ in two factors are never
compared as if in one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.core.recipes import shown_recipe
from harness.stats.rates import Rate, combined
from harness.stats.resampling import Interval, Values

FACTORS = (
    "model",
    "dtype",
    "device",
    "backend",
    "method",
    "scheme",
    "granularity",
    "bits",
    "format",
    "symmetric",
    "activations",
    "modules",
    "parts",
    "outputs",
    "rest",
    "recipe",
    "calibration_seed",
    "calibration_noise_db",
    "condition",
)
_DRAW = ("calibration_seed", "calibration_noise_db")
_IMPLIED = {
    "scheme": ("activations", *_DRAW),
    "method": _DRAW,
    "backend": _DRAW,
    "format": ("symmetric",),
    "model": ("revision",),
}
"""Factors that another one decides, and that need not agree where that one differs: weight-only has no
activation code, and a table of values has no zero point."""
_ORDER = (
    *(
        "clean",
        "float32",
        "cpu",
        "rtn",
        "none",
        "weight_only",
        "dynamic",
        "static",
        "per_tensor",
        "per_channel",
        "per_group",
    ),
    *("int", "linear", "decoder+encoder"),
)
"""Usual levels come first and are the base that others are compared with."""

_NOISE = re.compile(r"(\w.*) (-?[\d.]+) dB(?: .*)?")
"""A condition that has noise: its kind, and how far it lies below the speech."""


@dataclass(frozen=True)
class Outcome:
    """One quantized cell: its factors, and its errors by block.

    Attributes:
        cell_id: of the cell.
        split: the test set.
        factors: level by factor, as text; options are named `library.option`.
        errors, baseline_errors: of the cell and its full-precision baseline, (blocks,).
        words: reference words, (blocks,).
        speakers: names of the blocks; splits that have some in common are not independent samples.
        test_set: of which the split is one condition; empty where it is the only one.
    """

    cell_id: str
    split: str
    factors: Mapping[str, str]
    errors: Values
    baseline_errors: Values
    words: Values
    speakers: frozenset[str] = frozenset()
    test_set: str = ""

    @property
    def sample(self) -> str:
        """What the conditions of one test set have in common: the same speakers."""
        return self.test_set or self.split


@dataclass(frozen=True)
class Effect:
    """What `level` does instead of `base`, all else equal.

    Attributes:
        factor: that differs within a pair.
        base, level: its two levels.
        split: on which test set; both of them, joined, for an interaction with the split or the condition; that of the
            base for the effect of a condition.
        within: for an interaction, the other factor with its two levels; else empty.
        pairs: how many; pairs of pairs for an interaction.
        difference: mean over pairs of the difference in cost, WER minus the full-precision baseline's, a fraction
            (for cells that share a baseline the difference in WER); for an interaction, how much
            greater the effect is at the second level of the other factor.
        low, high: interval, bootstrapped over speakers, the same speakers in all cells of a split.
        cells: ids of every pair.
    """

    factor: str
    base: str
    level: str
    split: str
    within: str
    pairs: int
    difference: float
    low: float
    high: float
    cells: tuple[tuple[str, ...], ...]

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def factors_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Level by factor of one row of the results; the group size is part of the granularity, where layers share one.

    >>> row = {"backend": "hqq", "granularity": "per_group", "group_size": 64, "bits": 4, "options": '{"axis": 1}'}
    >>> factors_of(row)
    {'backend': 'hqq', 'granularity': 'per_group:64', 'bits': '4', 'hqq.axis': '1'}
    """
    levels = {name: text_of(row[name]) for name in FACTORS if name in row}
    if row["granularity"] == "per_group" and text_of(row["group_size"]) != "none":
        levels["granularity"] += f":{int(row['group_size'])}"
    if levels.get("recipe"):
        levels["recipe"] = f"[{shown_recipe(row['recipe'])}]"
    own = {f"{row['backend']}.{name}": text_of(value) for name, value in json.loads(row["options"]).items()}
    return levels | own


def text_of(value: Any) -> str:
    """A value of the results as the text of a level; what is missing is `none`."""
    missing = value is None or value != value
    return "none" if missing else str(value).lower() if isinstance(value, bool) else str(value)


def levels_of(outcomes: Sequence[Outcome], factor: str) -> list[str]:
    """Levels of a factor, usual ones first: bits fall, granularity goes from coarse to fine, noise grows.

    The rest is by name.
    """
    return sorted({o.factors[factor] for o in outcomes if factor in o.factors}, key=rank_of)


def rank_of(level: str) -> tuple[float, str, float, str]:
    if level.isdigit():
        return 0, "", -int(level), ""
    if noise := _NOISE.fullmatch(level):
        return 1 + len(_ORDER), noise[1], -float(noise[2]), level
    name, _, size = level.partition(":")
    place = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    return 1 + place, "", -int(size) if size.isdigit() else 0, level


def varying(outcomes: Sequence[Outcome]) -> list[str]:
    """The factors that have more than one level, in the order of `FACTORS`, options last."""
    names = dict.fromkeys(name for o in outcomes for name in o.factors)
    order = [*FACTORS, *sorted(n for n in names if n not in FACTORS)]
    return [name for name in order if name in names and len(levels_of(outcomes, name)) > 1]


def effects(outcomes: Sequence[Outcome]) -> list[Effect]:
    """The effect of every factor for every two of its levels that have a matched pair, on every split."""
    found = []
    for factor in varying(outcomes):
        for own in samples_of(outcomes, factor):
            for (base, level), pairs in pairs_of(own, factor).items():
                found.append(effect_of(factor, base, level, pairs[0][0].split, "", [pairs]))
    return found


def matched(outcomes: Sequence[Outcome]) -> set[tuple[str, str, str]]:
    """Factor and two levels of everything that has a matched pair on a split."""
    return {
        (factor, *levels)
        for factor in varying(outcomes)
        for own in samples_of(outcomes, factor)
        for levels in pairs_of(own, factor)
    }


def unmatched(outcomes: Sequence[Outcome]) -> list[str]:
    """Factors with several levels but no matched pair on any split: about these the study says nothing."""
    told = {factor for factor, _, _ in matched(outcomes)}
    return [factor for factor in varying(outcomes) if factor not in told]


def samples_of(outcomes: Sequence[Outcome], factor: str) -> list[list[Outcome]]:
    """The outcomes by split; where conditions are compared by test set."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.sample if factor == "condition" else outcome.split, []).append(outcome)
    return list(found.values())


Pairs = dict[tuple[str, str], list[tuple[Outcome, Outcome]]]


def pairs_of(outcomes: Sequence[Outcome], factor: str) -> Pairs:
    """All matched pairs of one split by their two levels, in order of rank; of cells scored on the same words."""
    groups: dict[Any, list[Outcome]] = {}
    for outcome in outcomes:
        if factor in outcome.factors:
            groups.setdefault(context_of(outcome, (factor, *_IMPLIED.get(factor, ()))), []).append(outcome)
    found: Pairs = {}
    for group in groups.values():
        ordered = sorted(group, key=lambda o: rank_of(o.factors[factor]))
        for a, b in itertools.combinations(ordered, 2):
            levels = a.factors[factor], b.factors[factor]
            if levels[0] != levels[1] and np.array_equal(a.words, b.words):
                found.setdefault(levels, []).append((a, b))
    return found


def context_of(outcome: Outcome, free: Sequence[str]) -> frozenset[tuple[str, str]]:
    """All factors but the free ones; where the library is free, so are its own options."""
    own = f"{outcome.factors.get('backend')}." if "backend" in free else None
    return frozenset(
        (name, level)
        for name, level in outcome.factors.items()
        if name not in free and not (own and name.startswith(own))
    )


def effect_of(
    factor: str, base: str, level: str, split: str, within: str, halves: Sequence[Sequence[tuple[Outcome, Outcome]]]
) -> Effect:
    """Mean difference over pairs; for two halves, that of the second minus that of the first."""
    columns = [_mean_difference(pairs) for pairs in halves]
    same_speakers = len(halves) == 1 or halves[0][0][0].sample == halves[1][0][0].sample
    if same_speakers:
        gap = columns[-1][0] - (columns[0][0] if len(columns) > 1 else 0)
        columns = [(gap, columns[0][1])]
    value, found = contrast(columns)
    ids = tuple(tuple(o.cell_id for pair in both for o in pair) for both in zip(*halves, strict=True))
    return Effect(factor, base, level, split, within, len(halves[0]), value, found.low, found.high, ids)


def _mean_difference(pairs: Sequence[tuple[Outcome, Outcome]]) -> tuple[Values, Values]:
    """Mean over pairs of the difference in errors beyond the baseline's, and words, by block."""
    gaps = [(b.errors - b.baseline_errors) - (a.errors - a.baseline_errors) for a, b in pairs]
    return np.mean(gaps, axis=0), pairs[0][0].words


def contrast(columns: Sequence[tuple[Values, Values]]) -> tuple[float, Interval]:
    """A rate, errors over words, with its interval; of two independent samples, the second's minus the first's.

    Args:
        columns: of one or two samples, errors and words by block.
    """

    signs = (1,) if len(columns) == 1 else (-1, 1)
    found = combined([[Rate(errors, words, sign)] for (errors, words), sign in zip(columns, signs, strict=True)])
    return found.estimate, found.interval
