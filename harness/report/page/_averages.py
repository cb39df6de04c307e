"""Means over test sets, where a run has several corpora or languages."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.averages import Average, averages, corpora, languages
from harness.report.numbers import percent
from harness.report.page._run import PageRun


@dataclass(frozen=True)
class AverageRow:
    """One configuration: its means in per cent, each with how far it is from full precision's, in points."""

    label: str
    means: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AveragesSection:
    """The table; without rows where the run has a single corpus in one language.

    Attributes:
        sets, corpora, languages: how many.
        headings: of the means.
        rows: the configurations.
    """

    sets: int
    corpora: int
    languages: int
    headings: tuple[str, ...]
    rows: tuple[AverageRow, ...]


def averages_section(run: PageRun) -> AveragesSection:
    """All configurations that are done on all test sets, best mean first."""
    found = averages(run.rows)
    first = {row["configuration_id"]: row for row in reversed(run.rows)}
    ordered = sorted(found, key=lambda key: found[key].over_sets)
    spoken = languages(run.rows)
    rows = []
    for key in ordered:
        baseline = run.study.baseline_of(first[key])
        base = None if baseline is None else found.get(baseline["configuration_id"])
        own, theirs = _means(found[key], spoken), {} if base is None else _means(base, spoken)
        means = [
            (percent(mean), percent(mean - theirs[name], sign=True) if theirs else "") for name, mean in own.items()
        ]
        rows.append(AverageRow(run.label(first[key]), tuple(means)))
    headings = tuple(_means(found[ordered[0]], spoken)) if ordered else ()
    return AveragesSection(len(run.splits), len(corpora(run.rows)), len(spoken), headings, tuple(rows))


def _means(average: Average, spoken: list[str]) -> dict[str, float]:
    """By heading; languages one by one where there are several."""
    over = {"over sets": average.over_sets, "over corpora": average.over_corpora}
    return over if len(spoken) < 2 else {**over, "over languages": average.over_languages, **average.by_language}
