"""Claims and their verdicts, for people, for Markdown and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from harness._printing import printable
from harness.report.claims._file import AnyClaim, NonInferior, SizeReduction
from harness.report.claims._tested import Place, Tested
from harness.report.numbers import DASH, percent, points_interval, probability
from harness.stats.claims import Finding, Verdict

_HEADINGS = ("claim", "source", "measured on", "effect [95 %]", "claimed", "p (Holm)", "verdict")
_STYLES = {
    Verdict.CONFIRMED: "green",
    Verdict.CONTRADICTED: "red",
    Verdict.CANNOT_TELL: "yellow",
    Verdict.NOT_MEASURED: "dim",
}


def as_table(results: Sequence[Tested]) -> Table:
    """A table for the terminal, one row a claim."""
    table = Table(show_lines=True)
    for heading in _HEADINGS:
        table.add_column(heading)
    for result in results:
        cells = [Text(printable("\n".join(lines))) for lines in _cells(result)]
        cells[-1].stylize(_STYLES[result.verdict])
        table.add_row(*cells)
    return table


def as_markdown(results: Sequence[Tested]) -> str:
    """The same table as Markdown."""
    cells = [[_inert("<br>".join(lines)) for lines in _cells(result)] for result in results]
    lines = [_HEADINGS, ["---"] * len(_HEADINGS), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(results: Sequence[Tested]) -> dict[str, Any]:
    """The claims as JSON values; what was not tested or cannot be estimated is `null`."""
    return {
        "claims": [
            {
                **result.claim.model_dump(mode="json"),
                "verdict": str(result.verdict),
                "p": _number(result.p),
                "p_holm": _number(result.p_holm),
                "missing": list(result.missing),
                "places": [_place(place) for place in result.places],
            }
            for result in results
        ]
    }


def _place(place: Place) -> dict[str, Any]:
    finding = place.finding
    tested = finding.blocks > 0
    return {
        "model": place.model,
        "split": place.split or None,
        "differ": list(place.differ),
        "effect": _number(finding.effect),
        "low": _number(finding.low),
        "high": _number(finding.high),
        "p": finding.p if tested else None,
        "detectable": _number(finding.detectable),
        "blocks": finding.blocks if tested else None,
        "blocked_by": finding.blocked_by or None,
        "identical": finding.identical,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cells(result: Tested) -> list[list[str]]:
    """What stands under every heading, line by line."""
    claim, places = result.claim, result.places
    return [
        [claim.sentence, *([f"({claim.label})"] if claim.label else [])],
        [claim.source],
        [*(_where(place) for place in places), *_differences(places)] or [DASH],
        [_effect(claim, place.finding) for place in places] or [DASH],
        [_claimed(claim)],
        [probability(_number(result.p_holm))],
        _verdict(result),
    ]


def _where(place: Place) -> str:
    return f"{place.model}, {place.split}" if place.split else place.model


def _differences(places: Iterable[Place]) -> list[str]:
    """The columns in which two cells differ, where there are several: the claim is not about one of them alone."""
    names = dict.fromkeys(name for place in places for name in place.differ)
    return [f"(differ in {', '.join(names)})"] if len(names) > 1 else []


def _effect(claim: AnyClaim, finding: Finding) -> str:
    if finding.identical:
        return "identical"
    if isinstance(claim, SizeReduction):
        return f"{percent(finding.effect)} %"
    return f"{points_interval(finding.effect, finding.low, finding.high)}{_unit(claim)}"


def _unit(claim: AnyClaim) -> str:
    relative = isinstance(claim, NonInferior | SizeReduction) or getattr(claim, "cost", "") == "relative"
    return " %" if relative else " points"


def _claimed(claim: AnyClaim) -> str:
    if isinstance(claim, SizeReduction):
        how = {"within": "", "above": "at least ", "below": "at most "}[claim.direction]
        return f"{how}{percent(claim.value)} % \N{PLUS-MINUS SIGN} {percent(claim.margin)}"
    if isinstance(claim, NonInferior):
        return f"{'at most' if claim.direction == 'below' else 'over'} {percent(claim.margin)} % more errors"
    return f"{claim.direction} {percent(claim.margin, sign=True)}{_unit(claim)}"


def _verdict(result: Tested) -> list[str]:
    if result.verdict is Verdict.NOT_MEASURED:
        return [f"{result.verdict}:", *result.missing]
    seen = [place.finding.detectable for place in result.places if math.isfinite(place.finding.detectable)]
    if result.verdict is Verdict.CANNOT_TELL and seen:
        return [str(result.verdict), f"(detectable: {percent(max(seen))}{_unit(result.claim)})"]
    return [str(result.verdict)]


def _inert(text: str) -> str:
    return printable(text).replace("|", "\\|")
