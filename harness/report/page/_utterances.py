"""What a cell transcribes otherwise than full precision: counts, and the largest changes word by word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report.page._run import PageRun
from harness.stats import Transcribed

LARGEST = 30
"""Utterances shown of every cell."""

Pair = tuple[Transcribed, Transcribed]


def utterances(run: PageRun) -> dict[str, Any]:
    """JSON values: by cell its changes, and, kept once, references by split and the baselines' transcripts.

    A change is a list: id, errors of the cell and of its baseline, transcript, alignment.
    """
    references: dict[str, dict[str, str]] = {}
    baselines: dict[str, dict[str, tuple[str, str]]] = {}
    cells: dict[str, Any] = {}
    for row in run.study.scored:
        against = run.study.against_baselines.get(row["cell_id"])
        if against is None:
            continue
        own, baseline = (run.study.sample(cell).utterances for cell in (row["cell_id"], against.baseline))
        pairs = list(zip(own, baseline, strict=True))
        shown = _largest(pairs)
        references.setdefault(row["split"], {}).update((one.id, one.reference) for one, _ in shown)
        baselines.setdefault(against.baseline, {}).update(
            (other.id, (other.hypothesis, other.alignment)) for _, other in shown
        )
        cells[row["cell_id"]] = {
            "label": run.label(row),
            "split": row["split"],
            "baseline": against.baseline,
            "counts": _counts(pairs),
            "shown": [
                [one.id, one.errors.errors, other.errors.errors, one.hypothesis, one.alignment] for one, other in shown
            ],
        }
    return {"references": references, "baselines": baselines, "cells": cells}


def _counts(pairs: Sequence[Pair]) -> dict[str, int]:
    changes = [one.errors.errors - other.errors.errors for one, other in pairs]
    return {
        "better": sum(change < 0 for change in changes),
        "worse": sum(change > 0 for change in changes),
        "equal": sum(change == 0 for change in changes),
        "changed": sum(one.hypothesis != other.hypothesis for one, other in pairs),
        "all": len(pairs),
    }


def _largest(pairs: Sequence[Pair]) -> list[Pair]:
    """Those with other words than their baseline, the largest change in errors first, losses before gains."""
    changed = [(one, other) for one, other in pairs if one.hypothesis != other.hypothesis]

    def rank(pair: Pair) -> tuple[int, int, str]:
        change = pair[0].errors.errors - pair[1].errors.errors
        return -abs(change), -change, pair[0].id

    return sorted(changed, key=rank)[:LARGEST]
