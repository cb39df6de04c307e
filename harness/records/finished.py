"""Finished cells, each read once: what it measured, its scores, and its utterances as the statistics take them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.core.generation import language_code
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
    "language_errors",
)


@dataclass(frozen=True)
class Finished:
    """A planned cell that is finished.

    Attributes:
        cell: as it was planned.
        document: its `cell.json`.
        scores: corpus rates, `None` each where nothing was transcribed; and how they are scored.
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
            scoring = _scoring(document.get("identity", {}), utterances)
            yield Finished(cell, document, {**scoring, **scores}, Sample.from_rows(utterances))


def _scoring(identity: Mapping[str, Any], utterances: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """How a cell is scored, by its identity: languages of what was transcribed, and normalisers, several with `+`."""
    told = identity.get("language") or language_code(identity.get("decoding", {}).get("language", "en"))
    versions = identity.get("normaliser", "whisper-english")
    names = versions.values() if isinstance(versions, Mapping) else [versions]
    return {
        "language": "+".join(sorted({row.get("language") or told for row in utterances} or {told})),
        "normalizer": "+".join(sorted({name.partition(" ")[0] for name in names})),
        "error_unit": identity.get("error_unit", "word"),
    }


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
        "language_errors": _misheard(utterances),
    }


def _misheard(utterances: list[dict[str, Any]]) -> int | None:
    """Utterances whose language was detected as another; `None` where none was left to the model."""
    pairs = [(u["language"], u["detected"]) for u in utterances if u.get("detected")]
    return sum(spoken != heard for spoken, heard in pairs) if pairs else None


def _nll(utterances: list[dict[str, Any]]) -> float:
    """Nats a token of the references; NaN where none was decoded in one pass."""
    tokens = sum(u["reference_tokens"] for u in utterances)
    return sum(u["reference_nll"] for u in utterances) / tokens if tokens else math.nan


def _sum(utterances: list[dict[str, Any]]) -> ErrorRate:
    rates = (ErrorRate(u["substitutions"], u["deletions"], u["insertions"], u["reference_words"]) for u in utterances)
    return sum(rates, ErrorRate())
