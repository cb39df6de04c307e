"""Finished cells as rows of the results: one row per planned cell, computed from what is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.cell import Cell, CellStatus, spec_columns
from harness.metrics import ErrorRate
from harness.store import RunDirectory

MEASURED = (
    "size_bytes",
    "file_bytes",
    "size_reduction",
    "effective_bits",
    "audio_seconds",
    "feature_seconds",
    "decode_seconds",
    "compute_seconds",
    "rtfx",
    "peak_rss_bytes",
)
_SCORES = (
    "wer",
    "wer_without_loops",
    "cer",
    "substitutions",
    "deletions",
    "insertions",
    "reference_words",
    "utterances",
    "empty_rate",
    "loop_rate",
)


def result_rows(directory: RunDirectory, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row for every planned cell that is finished, in the order of `cells`."""
    rows = []
    for cell in cells:
        stored = directory.finished(cell.cell_id)
        if stored is not None:
            rows.append(_row(cell, stored, directory.utterances(cell.cell_id)))
    return rows


def _row(cell: Cell, stored: dict[str, Any], utterances: list[dict[str, Any]]) -> dict[str, Any]:
    reference = cell.configuration.reference
    return {
        "cell_id": cell.cell_id,
        "status": stored["status"],
        "reason": stored["reason"],
        "configuration": cell.configuration.label,
        "configuration_id": cell.configuration.id,
        **spec_columns(cell.configuration),
        "dataset": f"{cell.data.dataset}/{cell.data.split}",
        "split": cell.data.label,
        **_scores(utterances, done=stored["status"] == CellStatus.DONE),
        **{key: stored["measured"].get(key) for key in MEASURED},
        "reference_wer": None if reference is None else _reference_wer(reference.wer, cell.data.label),
        "reference_source": None if reference is None else reference.source,
    }


def _reference_wer(percentages: dict[str, float], split: str) -> float | None:
    return percentages[split] / 100 if split in percentages else None


def _scores(utterances: list[dict[str, Any]], *, done: bool) -> dict[str, Any]:
    """Corpus rates: sums of errors over sums of reference units."""
    if not done or not utterances:
        return dict.fromkeys(_SCORES)
    words = _sum(utterances)
    characters = sum(u["character_errors"] for u in utterances), sum(u["reference_characters"] for u in utterances)
    return {
        "wer": words.rate,
        "wer_without_loops": _sum([u for u in utterances if not u["loop"]]).rate,
        "cer": characters[0] / characters[1] if characters[1] else math.nan,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "reference_words": words.reference,
        "utterances": len(utterances),
        "empty_rate": sum(u["empty"] for u in utterances) / len(utterances),
        "loop_rate": sum(u["loop"] for u in utterances) / len(utterances),
    }


def _sum(utterances: list[dict[str, Any]]) -> ErrorRate:
    rates = (ErrorRate(u["substitutions"], u["deletions"], u["insertions"], u["reference_words"]) for u in utterances)
    return sum(rates, ErrorRate())
