"""Claims tested: their cells found, their effects computed at every place, their verdicts and p-values joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from harness.errors import ConfigError, DataError
from harness.report.claims._file import AnyClaim, Compared, Interaction, NonInferior, SizeReduction
from harness.report.claims._runs import NotMeasuredError, Row, Run, differing, open_run
from harness.report.columns import check_columns
from harness.stats import Sample
from harness.stats.claims import (
    Direction,
    Finding,
    Verdict,
    between_models,
    between_splits,
    difference_of,
    exact,
    judged,
    non_inferior,
)
from harness.stats.study import holm


@dataclass(frozen=True)
class Place:
    """Where a claim was tested.

    Attributes:
        model: of the run, or two of them, the first minus the second.
        split: the test set, or two of them; empty of sizes.
        differ: columns in which the two cells differ, where the claim names both.
        finding: what was found.
    """

    model: str
    split: str
    differ: tuple[str, ...]
    finding: Finding


@dataclass(frozen=True)
class Tested:
    """A claim with its verdict.

    Attributes:
        claim: as the file has it.
        places: what was found where.
        verdict: over all places.
        p: of the claim's boundary; NaN where nothing was tested.
        p_holm: the same, adjusted for all claims of the file.
        missing: what is not there, a sentence each; nothing where it was measured.
    """

    claim: AnyClaim
    places: tuple[Place, ...]
    verdict: Verdict
    p: float
    p_holm: float
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    """A cell and the one that it is compared with, on one split of one run."""

    rows: tuple[Row, Row]
    samples: tuple[Sample, Sample]

    @property
    def model(self) -> str:
        return str(self.rows[0]["model"])


Open = Callable[[str], Run]


def tested(claims: Sequence[AnyClaim]) -> list[Tested]:
    """The verdicts on all claims, in their order.

    Raises:
        ConfigError: a column is not known, or a claim does not tell which cell it means.
        DataError: what a claim compares is not comparable.
        OutputError: a run is not what was written.
    """
    opened = cache(open_run)
    found = [_tested(claim, opened) for claim in claims]
    adjusted = holm({each.claim.name: each.p for each in found})
    return [replace(each, p_holm=adjusted[each.claim.name]) for each in found]


def _tested(claim: AnyClaim, opened: Open) -> Tested:
    try:
        for wanted in (claim.cell, getattr(claim, "against", None) or {}):
            check_columns(wanted)
        places, missing = _attempted(_measurements(claim, opened))
    except (ConfigError, DataError) as error:
        raise type(error)(f"claim {claim.name!r}: {error}") from None
    if missing:
        return Tested(claim, tuple(places), Verdict.NOT_MEASURED, math.nan, math.nan, tuple(dict.fromkeys(missing)))
    verdict, p = judged([place.finding for place in places])
    return Tested(claim, tuple(places), verdict, math.nan if _has_no_error(claim) else p, math.nan, ())


def _has_no_error(claim: AnyClaim) -> bool:
    return isinstance(claim, SizeReduction)


def _attempted(measurements: Iterator[Callable[[], Place]]) -> tuple[list[Place], list[str]]:
    """The places that could be measured, and what the others lack."""
    places, missing = [], []
    for measure in measurements:
        try:
            places.append(measure())
        except NotMeasuredError as error:
            missing.append(str(error))
    return places, missing


def _measurements(claim: AnyClaim, opened: Open) -> Iterator[Callable[[], Place]]:
    """One for every place that a claim is about."""
    if isinstance(claim, SizeReduction):
        yield from (partial(_size, claim, run, opened) for run in claim.runs)
    elif not isinstance(claim, Interaction):
        yield from (partial(_pairwise, claim, run, split, opened) for run in claim.runs for split in claim.splits)
    elif claim.between == "splits":
        yield from (partial(_splits, claim, run, opened) for run in claim.runs)
    else:
        yield from (partial(_models, claim, split, opened) for split in claim.splits)


def _size(claim: SizeReduction, path: str, opened: Open) -> Place:
    row = opened(path).cell(claim.cell, None)
    value = row.get(claim.measure)
    if value is None:
        raise NotMeasuredError(f"{path}: {row['configuration']} has no {claim.measure}")
    return Place(row["model"], "", (), exact(value, claim.value, claim.margin, Direction(claim.direction)))


def _pairwise(claim: Compared, path: str, split: str, opened: Open) -> Place:
    pair = _pair(claim, opened(path), split)
    test = non_inferior if isinstance(claim, NonInferior) else difference_of
    return Place(pair.model, split, _differ(claim, pair), test(*pair.samples, *_boundary(claim)))


def _splits(claim: Interaction, path: str, opened: Open) -> Place:
    first, second = (_pair(claim, opened(path), split) for split in claim.splits)
    found = between_splits(first.samples, second.samples, *_boundary(claim), relative=claim.cost == "relative")
    return Place(first.model, _less(*claim.splits), _differ(claim, first), found)


def _models(claim: Interaction, split: str, opened: Open) -> Place:
    first, second = (_pair(claim, opened(path), split) for path in claim.runs)
    found = between_models(first.samples, second.samples, *_boundary(claim), relative=claim.cost == "relative")
    return Place(_less(first.model, second.model), split, _differ(claim, first), found)


def _pair(claim: Compared, run: Run, split: str) -> _Pair:
    row = run.cell(claim.cell, split)
    other = run.baseline(row) if claim.against is None else run.cell(claim.against, split)
    return _Pair((row, other), (run.sample(row), run.sample(other)))


def _boundary(claim: Compared) -> tuple[float, Direction]:
    return claim.margin, Direction(claim.direction)


def _differ(claim: Compared, pair: _Pair) -> tuple[str, ...]:
    return () if claim.against is None else differing(*pair.rows)


def _less(first: str, second: str) -> str:
    return f"{first} minus {second}"
