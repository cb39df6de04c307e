"""Finished cells, each read once: what it measured, its scores, and its utterances as the statistics take them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.experiment.cell import Cell, CellStatus
from harness.metrics import ErrorRate
from harness.records.reading import RecordedRun

if TYPE_CHECKING:
    from harness.stats import Sample

_SCORES = (
    "wer",
    "wer_without_loops",
    "cer",
    "nll",
    "substitutions",
    "deletions",
    "insertions",
    "reference_words",
    "utterances",
    "empty_rate",
    "loop_rate",
)


@dataclass(frozen=True)
class Finished:
    """A planned cell that is finished.

    Attributes:
        cell: as it was planned.
        document: its `cell.json`.
        scores: corpus rates; `None` each where nothing was transcribed.
        sample: its utterances.
    """

    cell: Cell
    document: dict[str, Any]
    scores: dict[str, Any]
    sample: Sample


def finished_cells(run: RecordedRun, cells: Iterable[Cell]) -> Iterator[Finished]:
    """Those of the planned cells that are finished, in their order, one in memory at a time.

    Raises:
        OutputError: a cell is not what was written.
    """
    from harness.stats import Sample

    for cell in cells:
        document = run.finished(cell.cell_id)
        if document is not None:
            utterances = run.utterances(cell.cell_id)
            scores = _scores(utterances, done=document["status"] in (CellStatus.DONE, CellStatus.STOPPED))
            yield Finished(cell, document, scores, Sample.from_rows(utterances))


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
        "nll": _nll(utterances),
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "reference_words": words.reference,
        "utterances": len(utterances),
        "empty_rate": sum(u["empty"] for u in utterances) / len(utterances),
        "loop_rate": sum(u["loop"] for u in utterances) / len(utterances),
    }


def _nll(utterances: list[dict[str, Any]]) -> float:
    """Nats a token of the references; NaN where none was decoded in one pass."""
    tokens = sum(u["reference_tokens"] for u in utterances)
    return sum(u["reference_nll"] for u in utterances) / tokens if tokens else math.nan


def _sum(utterances: list[dict[str, Any]]) -> ErrorRate:
    rates = (ErrorRate(u["substitutions"], u["deletions"], u["insertions"], u["reference_words"]) for u in utterances)
    return sum(rates, ErrorRate())
