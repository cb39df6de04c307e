"""Results computed again from the stored cells, compared with those that were written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backends import AsrQuantError
from harness.experiment.cell import Cell
from harness.records.published import PublishedRun
from harness.records.reading import RecordedRun
from harness.records.results import result_rows

_CLOSE = 1e-4
"""Relative difference of likelihoods that another order of sums may cause."""


def differing_results(run: RecordedRun, rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> Iterator[str]:
    """A sentence for every row of the results that does not follow from its cells.

    What follows from values for every token cannot be computed from a published run, which leaves these out.
    """
    listed = {row["cell_id"]: row for row in rows}
    partial = isinstance(run, PublishedRun) and bool(run.dropped)
    try:
        computed = result_rows(run, cells)
    except AsrQuantError as error:
        yield f"results.parquet: its statistics do not follow: {error}"
        return
    for row in computed:
        before = listed[row["cell_id"]]
        wrong = [
            key for key, value in row.items() if not same(value, before.get(key)) and not (partial and value is None)
        ]
        if wrong:
            yield f"results.parquet: {row['configuration']} on {row['split']}: {', '.join(wrong)} differ"


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; what is not a number is missing."""
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (a, b)]
    return all(missing) if any(missing) else bool(a == b)


def close(a: Any, b: Any) -> bool:
    """Whether two values are equal, numbers nearly."""
    both = isinstance(a, float) and isinstance(b, float)
    return math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_CLOSE) if both else same(a, b)
