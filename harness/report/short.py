"""What a reader takes home: a few sentences that can be quoted, each from rows of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness._printing import counted
from harness.report.complete import CATASTROPHE, Complete, complete, described, is_worse, joined, relative
from harness.report.silence import unspoken
from harness.report.units import unit_of
from harness.stats import MARGIN, Study

Row = Mapping[str, Any]
_HALF = 0.5
_NAMED = 3
_MOST = 5


def in_short(study: Study) -> list[str]:
    """At most five sentences: what to take, what to avoid, what cannot be told, and what it was measured on.

    Where no quantized configuration is done on every test set, what is written where nobody speaks. A recommendation
    looks at all test sets together: the smallest that is shown to be as good on each, and of those of at most half the
    size the one whose largest relative increase of the errors is smallest.
    """
    splits = list(dict.fromkeys(row["split"] for row in study.scored))
    everything = complete(study, splits)
    quantized = [one for one in everything if not one.is_baseline]
    if not quantized:
        return unspoken(study)[:_MOST]
    bad = [one for one in quantized if any(map(_is_catastrophe, one.rows.values()))]
    said = [_lossless(quantized, splits), _half(quantized, splits), _to_avoid(bad), _untold(quantized), _where(study)]
    return [sentence for sentence in said if sentence]


def _lossless(quantized: Sequence[Complete], splits: Sequence[str]) -> str:
    good = next((one for one in quantized if one.as_good), None)
    where = f"on {joined(splits)}"
    if good is None:
        return f"If nothing may be lost: full precision, since nothing here is shown to be as good {where}."
    return f"If nothing may be lost: {described(good)}, certainly fewer than {MARGIN:.0%} more errors {where}."


def _half(quantized: Sequence[Complete], splits: Sequence[str]) -> str:
    small = [one for one in quantized if (one.any["size_reduction"] or 0) >= _HALF]
    if not small:
        return "Nothing here has at most half the size of full precision."
    best = min(small, key=lambda one: (max(map(relative, one.rows.values())), one.size))
    costs = joined([f"{best.cost(split)} on {split}" for split in splits])
    rate = unit_of(best.rows.values()).rate
    chosen = "the only one" if len(small) == 1 else f"the best of {len(small)} on these very utterances"
    return f"At most half the size: {described(best)}, at a cost in points of {rate} of {costs}; it is {chosen}."


def _to_avoid(bad: Sequence[Complete]) -> str:
    if not bad:
        return ""
    named = [one.label for one in sorted(bad, key=lambda one: -max(map(relative, one.rows.values())))[:_NAMED]]
    more = f" and {len(bad) - len(named)} more" if len(bad) > len(named) else ""
    return f"To be avoided: {'; '.join(named)}{more}, with over {CATASTROPHE:g} times the errors on a test set."


def _is_catastrophe(row: Row) -> bool:
    return row["relative"] is not None and row["relative"] > CATASTROPHE - 1


def _untold(quantized: Sequence[Complete]) -> str:
    untold = [one for one in quantized if not one.as_good and not any(map(is_worse, one.rows.values()))]
    if not untold:
        return ""
    return (
        f"Of {counted(len(quantized), 'configuration')} {len(untold)} are neither shown to be as good nor to be worse: "
        "for these the test sets are too small."
    )


def unmeasured(study: Study, asked: str) -> list[str]:
    """What the run does not tell, with the command that would.

    Args:
        asked: the experiment, as a command names it.
    """
    if any(row.get("timed_rtfx") is not None for row in study.scored):
        return []
    return [f"Speed is not measured: python -m harness.latency {asked}, with nothing else running."]


def _where(study: Study) -> str:
    models = joined(list(dict.fromkeys(str(row["model"]) for row in study.scored)))
    utterances = {row["split"]: row["utterances"] for row in study.scored}
    sizes = joined([f"{number} utterances of {split}" for split, number in utterances.items()])
    return f"This holds for {models} and {sizes}; other models and other speech were not measured."
