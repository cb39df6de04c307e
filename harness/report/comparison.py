"""Two systems compared, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness._printing import counted, printable
from harness.report.numbers import percent, points_interval
from harness.report.strata import Stratum
from harness.report.units import WORDS, Unit
from harness.stats import FEWEST_BLOCKS, MARGIN, Comparison, Sample, System, Transcribed

_MARKS = {"S": "bold magenta", "D": "bold red strike", "I": "bold blue underline"}


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON values: rates are fractions; what was not tested or cannot be estimated is `null`."""
    difference, mapsswe = comparison.difference, comparison.mapsswe
    return {
        "a": _system(comparison.a),
        "b": _system(comparison.b),
        "difference": {
            "wer": difference.wer,
            "low": _number(difference.low),
            "high": _number(difference.high),
            "p_permutation": _number(difference.p_permutation),
            "relative": _number(difference.relative),
            "detectable": _number(difference.detectable),
        },
        "mapsswe": {
            "segments": mapsswe.segments,
            "mean": mapsswe.mean,
            "standard_deviation": mapsswe.standard_deviation,
            "z": mapsswe.z,
            "p": mapsswe.p,
        },
        "identical": comparison.identical,
        "changes": asdict(comparison.changes),
    }


def _system(system: System) -> dict[str, Any]:
    return {
        "errors": system.errors.errors,
        "substitutions": system.errors.substitutions,
        "deletions": system.errors.deletions,
        "insertions": system.errors.insertions,
        "reference_words": system.errors.reference,
        "wer": system.wer,
        "low": _number(system.low),
        "high": _number(system.high),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_text(
    comparison: Comparison, names: Sequence[str], samples: Sequence[Sample], shown: int, unit: Unit = WORDS
) -> Group:
    """The comparison in words, and the first `shown` utterances in which the two differ, aligned."""
    return Group(
        _table(comparison, names, unit),
        *(Text(sentence) for sentence in sentences(comparison, unit)),
        *_utterances(names, samples, shown),
    )


def strata_table(found: Sequence[Stratum], unit: Unit = WORDS) -> Table:
    """The first system beside the second in parts of the test set, with the interval of the difference, in points."""
    table = Table(title="by stratum")
    for heading in ("by", "which", "utterances", f"{unit.rate} of the first, %", "of the second, %", "difference"):
        table.add_column(heading)
    for one in found:
        gap = points_interval(one.wer - one.baseline_wer, one.low, one.high)
        rates = (percent(one.wer), percent(one.baseline_wer))
        table.add_row(one.by, Text(printable(one.name)), str(one.utterances), *rates, gap)
    return table


def _table(comparison: Comparison, names: Sequence[str], unit: Unit) -> Table:
    table = Table()
    for heading in ("", "system"):
        table.add_column(heading, overflow="fold")
    for heading in (unit.rate, "95 % interval", "errors", "sub", "del", "ins", unit.plural):
        table.add_column(heading, justify="right")
    for letter, name, system in zip("AB", names, (comparison.a, comparison.b), strict=True):
        errors = system.errors
        counts = (errors.errors, errors.substitutions, errors.deletions, errors.insertions, errors.reference)
        wer = f"{system.wer:.2%}"
        table.add_row(letter, Text(printable(name)), wer, _interval(system.low, system.high), *map(str, counts))
    return table


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low * 100:.2f} to {high * 100:.2f}"


def sentences(comparison: Comparison, unit: Unit) -> Iterator[str]:
    """What the comparison says; A is the first system, B the second."""
    difference, mapsswe = comparison.difference, comparison.mapsswe
    if comparison.identical:
        yield "A and B gave the same words for every utterance: identical, so nothing was tested."
        return
    if math.isnan(difference.low):
        points = f"{difference.wer * 100:+.2f} points of {unit.rate}"
        yield f"A minus B: {points}; a single utterance allows no interval and no test."
        return
    if difference.low == difference.high:
        yield f"A and B differ in words, but every {comparison.blocked_by} has as many errors in both."
        return
    changes, count = comparison.changes, len(comparison.samples[0].utterances)
    worse = f"{changes.worse:,} with {counted(changes.added, 'error')} more"
    better = f"{changes.better:,} with {changes.removed:,} fewer"
    yield f"Of {counted(count, 'utterance')} {changes.changed:,} have other words in A: {worse}, {better}."
    interval = _interval(difference.low, difference.high)
    points = f"{difference.wer * 100:+.2f} points of {unit.rate}, 95 % interval {interval}"
    yield f"A minus B: {points}; {comparison.blocks} {comparison.blocked_by}s were resampled."
    if math.isfinite(difference.relative_high):
        relative = f"{difference.relative:+.1%}, 95 % interval {difference.relative_low:+.1%} to"
        yield f"Relative change in errors: {relative} {difference.relative_high:+.1%}."
    yield f"Permutation test (signs flipped by {comparison.blocked_by}): p = {difference.p_permutation:.4f}."
    if comparison.blocked_by == "utterance":
        yield "Two speakers or more are not known, so utterances were taken as independent: intervals are too narrow."
    elif comparison.blocks < FEWEST_BLOCKS:
        yield "With fewer than six speakers the permutation test cannot reach p < .05, whatever the difference."
    if mapsswe.z is not None:
        yield f"MAPSSWE: {mapsswe.segments} segments, z = {mapsswe.z:.3f}, p = {mapsswe.p:.3g}."
    if difference.low > 0:
        yield "A is shown to be worse than B: the interval of the difference lies above 0."
    else:
        verdict, lies = ("is", "lies") if difference.non_inferior else ("is not", "does not lie")
        yield (
            f"A {verdict} shown to be as good as B, certainly fewer than {MARGIN:.0%} more errors: the interval of A's "
            f"errors less {1 + MARGIN:g} times B's {lies} below 0."
        )
    if not math.isnan(difference.detectable):
        yield f"Minimum detectable difference of a single test: {difference.detectable * 100:.2f} points (80 % power)."


def _utterances(names: Sequence[str], samples: Sequence[Sample], shown: int) -> Iterator[Any]:
    pairs = list(zip(samples[0].utterances, samples[1].utterances, strict=True))
    differing = [pair for pair in pairs if pair[0].hypothesis != pair[1].hypothesis]
    differing.sort(key=lambda pair: -abs(pair[0].errors.errors - pair[1].errors.errors))
    count = min(shown, len(differing))
    if count:
        yield Text(
            f"\nUtterances that differ: {len(differing)} of {len(pairs)}; the {count} that differ most "
            "(A and B: substitutions as reference>hypothesis, -deleted-, +inserted+):"
        )
    for a, b in differing[:count]:
        yield Text(f"\n{printable(a.id)}  A {counted(a.errors.errors, 'error')}, B {b.errors.errors}", style="bold")
        lines = (("reference", Text(printable(a.reference))), ("A", aligned(a)), ("B", aligned(b)))
        for name, text in lines:
            yield Padding(Text.assemble(f"{name:>9}  ", text), (0, 0, 0, 1), expand=False)


def aligned(utterance: Transcribed) -> Text:
    """The words of the hypothesis, every error marked by signs as well as by colour."""
    expected, found = iter(utterance.reference.split()), iter(utterance.hypothesis.split())
    words = []
    for step in utterance.alignment:
        right = next(expected) if step != "I" else ""
        word = next(found) if step != "D" else ""
        marked = {"C": word, "S": f"{right}>{word}", "D": f"-{right}-", "I": f"+{word}+"}[step]
        words.append(Text(printable(marked), style=_MARKS.get(step, "")))
    return Text(" ").join(words)
