"""Means over test sets, where a run has several corpora."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.averages import averages, corpora
from harness.report.numbers import percent
from harness.report.page._run import PageRun


@dataclass(frozen=True)
class AverageRow:
    """One configuration: its means in per cent, and how far each is from full precision's, in points."""

    label: str
    over_sets: str
    sets_change: str
    over_corpora: str
    corpora_change: str


@dataclass(frozen=True)
class AveragesSection:
    """The table; without rows where the run has a single corpus."""

    sets: int
    corpora: int
    rows: tuple[AverageRow, ...]


def averages_section(run: PageRun) -> AveragesSection:
    """All configurations that are done on all test sets, best mean first."""
    found = averages(run.rows)
    first = {row["configuration_id"]: row for row in reversed(run.rows)}
    ordered = sorted(found, key=lambda key: found[key].over_sets)
    rows = []
    for key in ordered:
        baseline = run.study.baseline_of(first[key])
        base = None if baseline is None else found.get(baseline["configuration_id"])
        own = found[key]
        rows.append(
            AverageRow(
                run.label(first[key]),
                percent(own.over_sets),
                "" if base is None else percent(own.over_sets - base.over_sets, sign=True),
                percent(own.over_corpora),
                "" if base is None else percent(own.over_corpora - base.over_corpora, sign=True),
            )
        )
    return AveragesSection(len(run.splits), len(corpora(run.rows)), tuple(rows))
