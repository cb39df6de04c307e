"""Findings in words: the questions that people bring, answered from the rows of a run.

A configuration is called as good as full precision only where the whole interval of its relative
change lies under the margin, on every split. Where nothing was shown, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness._printing import counted
from harness.report.complete import (
    SIGNIFICANT,
    Complete,
    complete,
    described,
    is_worse,
    joined,
    listed,
    megabytes,
    names_of,
    relative,
)
from harness.report.frontier import frontier
from harness.report.numbers import points_interval
from harness.report.silence import unspoken
from harness.report.units import unit_of
from harness.stats import MARGIN, Effect, Study, smallest_p

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A question with its answer, in sentences of plain text."""

    question: str
    answer: tuple[str, ...]


def findings(study: Study) -> list[Finding]:
    """All questions that the run can answer, most asked first; empty where no quantized cell is done."""
    written = unspoken(study)
    silent = [Finding("What is written where nobody speaks?", tuple(written))] if written else []
    splits = list(dict.fromkeys(row["split"] for row in study.scored))
    everything = complete(study, splits)
    if not any(not c.is_baseline for c in everything):
        return silent
    asked: list[Callable[[Study, Sequence[Complete], Sequence[str]], Finding | None]] = [
        _eight_bits,
        _smallest,
        _four_bits,
        _sixteen_bits,
        _granularity,
        _factors,
        _frontier,
        _power,
    ]
    return [found for question in asked if (found := question(study, everything, splits)) is not None] + silent


def _frontier(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding:
    names = {c.any["configuration_id"]: c.label for c in everything}
    sentences = []
    for split in splits:
        best = frontier(c.rows[split] for c in everything)
        listed = [f"{names[r['configuration_id']]} ({megabytes(r['size_bytes'])}, {r['wer']:.2%})" for r in best]
        sentences.append(f"On {split}, from small to large: {'; '.join(listed)}.")
    sentences.append("Neighbours on this line may differ by chance only: compare them with python -m harness.compare.")
    rate = unit_of(study.scored).rate
    return Finding(f"Which configurations are on the Pareto frontier of size and {rate}?", tuple(sentences))


def _eight_bits(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding | None:
    own = [c for c in everything if c.any["bits"] == 8 and c.any["format"] == "int"]
    if not own:
        return None
    good, rest = [c for c in own if c.as_good], [c for c in own if not c.as_good]
    where = f"on {joined(splits)}"
    sentences = [
        f"Shown to be as good {where} (certainly fewer than {MARGIN:.0%} more errors): {names_of(good)}."
        if good
        else f"No configuration is shown to be as good {where}: to make certainly fewer than {MARGIN:.0%} more errors."
    ]
    partly = [c for c in rest if any(row["non_inferior"] for row in c.rows.values())]
    for split in splits if len(splits) > 1 else ():
        here = [c for c in partly if c.rows[split]["non_inferior"]]
        if here:
            sentences.append(f"On {split} alone also: {names_of(here)}.")
    worse = [c for c in rest if any(is_worse(row) for row in c.rows.values())]
    if worse:
        sentences.append(f"Shown to be worse than full precision: {names_of(worse)}.")
    if any(c not in worse for c in rest):
        sentences.append("For the others this test set is too small to tell.")
    sentences.append("Each configuration is judged for itself; of many, one may pass by chance.")
    return Finding("Which 8-bit integer model is as good as full precision?", tuple(sentences))


def _smallest(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding:
    quantized = [c for c in everything if not c.is_baseline]
    shown = next((c for c in quantized if c.as_good), None)
    close = next((c for c in quantized if all(relative(r) <= MARGIN for r in c.rows.values())), None)
    sentences = [
        f"Shown with confidence on every split: {described(shown)}."
        if shown
        else "With confidence on every split: none of those tried."
    ]
    if close is not None and close is not shown:
        changes = joined([f"{relative(close.rows[s]):+.1%} on {s}" for s in splits])
        sentences.append(
            f"By the measured errors alone: {described(close)}, with {changes}; "
            "its interval reaches beyond the margin, so a larger test set could say otherwise."
        )
    return Finding(f"What is the smallest model within {MARGIN:.0%} of the baseline's errors?", tuple(sentences))


def _four_bits(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding | None:
    own = [c for c in everything if c.any["bits"] == 4]
    if not own:
        return None
    base = {s: [r["wer"] for r in study.scored if r["split"] == s and r["backend"] == "none"] for s in splits}
    sentences = []
    for split in sorted(splits, key=lambda s: -max(base[s])):
        costs = [f"{c.label} {c.cost(split)}" for c in sorted(own, key=lambda c: c.rows[split]["difference"])]
        rates = joined([f"{wer:.2%}" for wer in base[split]], "or")
        own_unit = unit_of(r for r in study.scored if r["split"] == split)
        sentences.append(f"On {split} (full precision {rates}), in points of {own_unit.rate}: {listed(costs)}.")
    clear = [c for c in own if any(is_worse(row) for row in c.rows.values())]
    sentences.append(
        f"Of these, worse than full precision after adjustment for all tests: {names_of(clear)}."
        if clear
        else "Not one of these is shown to be worse than full precision once all tests of the run are adjusted for."
    )
    return Finding("What do 4 bits cost, most difficult speech first?", tuple(sentences))


def _sixteen_bits(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding | None:
    casts = [c for c in everything if c.any["backend"] == "cast"]
    if not casts:
        return None
    sentences = []
    for cast in casts:
        costs = joined([f"{cast.cost(s)} on {s}" for s in splits])
        verdict = "as good as full precision" if cast.as_good else "not shown to be as good as full precision"
        sentences.append(f"{cast.label} saves {cast.any['size_reduction']:.1%} at {costs}: {verdict}.")
    smaller = [c for c in everything if c.as_good and c.size < min(cast.size for cast in casts)]
    savings = "; ".join(f"{c.label} saves {c.any['size_reduction']:.1%}" for c in smaller)
    sentences.append(
        f"Smaller and as good: {savings}. "
        "By size the plain cast is not the better bargain; it needs no library and no special kernels."
        if smaller
        else "Nothing smaller is shown to be as good: here the plain cast is the better bargain."
    )
    return Finding("Is a plain 16-bit cast the better bargain?", (*sentences, *_work([*casts, *smaller], splits[0])))


def _work(compared: Sequence[Complete], split: str) -> list[str]:
    """What else they cost, where it was counted or timed."""
    sentences = []
    for key, what, unit in (
        ("rtfx_ratio_batch", "Speed in batches, as a ratio to full precision", 1.0),
        ("bops_per_audio_second", "10^12 bit operations per second of audio", 1e12),
    ):
        known = {c.label: float(c.rows[split][key]) for c in compared if c.rows[split].get(key) is not None}
        if len(known) == len(compared):
            sentences.append(f"{what}: {'; '.join(f'{name} {value / unit:.2f}' for name, value in known.items())}.")
    return sentences


def _granularity(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding | None:
    own = [e for e in study.effects if e.factor == "granularity"]
    return Finding("Does granularity matter?", tuple(_changes(own, study))) if own else None


def _factors(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding | None:
    own = [e for e in study.effects if e.factor != "granularity"]
    silent = study.unmatched
    if not own and not silent:
        return None
    sentences = _changes(own, study)
    if silent:
        sentences.append(
            f"No two cells differ in nothing but {joined(silent, 'or')}: about these alone the run says nothing."
        )
    sentences.append("These intervals, and those of granularity, are each for itself, not adjusted for their number.")
    return Finding("What do the other factors do, all else equal?", tuple(sentences))


def _changes(own: Sequence[Effect], study: Study) -> list[str]:
    """A sentence for every change that does something on a split, with all its splits; and one for the others."""
    by_change: dict[str, list[Effect]] = {}
    for effect in own:
        by_change.setdefault(f"{effect.factor} {effect.level} instead of {effect.base}", []).append(effect)
    clear = {change: found for change, found in by_change.items() if any(e.is_clear for e in found)}
    sentences = [f"{change}: {_by_split(found, study)}." for change, found in clear.items()]
    unclear = [change for change in by_change if change not in clear]
    return [*sentences, f"No difference shown for {listed(unclear)}."] if unclear else sentences


def _by_split(found: Sequence[Effect], study: Study) -> str:
    costs = [(points_interval(effect.difference, effect.low, effect.high), effect.split) for effect in found]
    points = joined([f"{cost} points on {split}" for cost, split in costs])
    if found[0].pairs > 1:
        return f"{points} (mean of {found[0].pairs} pairs)"
    base = next(r for r in study.scored if r["cell_id"] == found[0].cells[0][0])
    return f"{points} (one pair, from {base['configuration']})"


def _power(study: Study, everything: Sequence[Complete], splits: Sequence[str]) -> Finding:
    sentences = []
    for split in splits:
        compared = [r for r in study.scored if r["split"] == split and r["difference"] is not None]
        rows = [r for r in compared if r["detectable"] is not None]
        if len(rows) > len(compared) / 2:
            smallest = median(r["detectable"] for r in rows) * 100
            sentences.append(
                f"On {split} ({rows[0]['blocks']} {rows[0]['blocked_by']}s resampled) the minimum detectable "
                f"difference of a single test is {smallest:.2f} points in half of {counted(len(rows), 'comparison')} "
                f"in which it can be estimated, of {len(compared)} (80 % power)."
            )
    tested = [r for r in study.scored if r["p_permutation"] is not None]
    blind = [r for r in tested if len(tested) * smallest_p(r["blocks"]) >= SIGNIFICANT]
    if blind:
        sentences.append(
            f"With {blind[0]['blocks']} {blind[0]['blocked_by']}s no permutation test can reach "
            f"{SIGNIFICANT} after adjustment for all {len(tested)} tests, whatever the difference."
        )
    if not sentences:
        sentences.append("That cannot be estimated: too few cells differ from full precision, or in too few places.")
    return Finding("How small a difference could be seen at all?", tuple(sentences))
