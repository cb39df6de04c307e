"""The names of what stands in a run directory, and a cell as it is handed over to be written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.experiment.cell import LATER_COLUMNS

Rows = Sequence[Mapping[str, Any]]
Files = Mapping[str, bytes]
"""A finished cell as it is stored: the contents of its files by their names."""
LATENCY = "latency.json"
ANALYSES = "analysis"
EXPERIMENT = "experiment.json"
RESULTS = ("results.parquet", "results.csv")
CHECKSUMS = "results.sha256"
FEATURES = "features"
"""Prepared speech, for as long as a run works."""
ENCODER_STATES = "encoder_states"
"""States that several configurations share, for as long as they are needed."""
LEASES = "leases"
"""Who does what now."""
ANSWERS = "answers.safetensors"
MODELS = "models"
"""Quantized models between the rounds of a search."""
PARTS = "parts"
"""Finished batches of unfinished cells."""

_EARLIER = {"twin_cell_id": "baseline_cell_id"}
"""Columns of the results by the names that earlier versions gave them."""
_WITHOUT = {**LATER_COLUMNS, "condition": ""}
"""Columns that earlier versions did not have, with the level of their results."""


LATER_RESULTS = {
    "language": "en",
    "normalizer": "whisper-english",
    "error_unit": "word",
    "language_errors": None,
}
"""Columns of the results that were added when English was all that could be scored."""


def named_today(rows: Rows) -> list[dict[str, Any]]:
    """Rows of the results with today's columns, whichever version wrote them."""
    later = {**_WITHOUT, **LATER_RESULTS}
    return [{**later, **{_EARLIER.get(key, key): value for key, value in row.items()}} for row in rows]


@dataclass(frozen=True)
class CellRecord:
    """All that is kept of one cell.

    Attributes:
        cell_id: names its directory.
        cell: identity, status, reason, and measured values, as JSON values.
        utterances: one row per utterance: id, speaker, reference, hypothesis, both normalised,
            alignment, tokens, counts, and the reference's likelihood; or the reason why it could not be decoded.
        layers: one row per candidate module.
        environment: versions, machine, command.
        log: what the worker and the libraries printed.
        operations: one row per layer and phase of a transcription: MACs, BOPs and bytes.
        answers: of a baseline, what it answers to the references (see `harness.recognition.likelihood`), as a file.
    """

    cell_id: str
    cell: Mapping[str, Any]
    utterances: Rows = ()
    layers: Rows = ()
    environment: Mapping[str, Any] | None = None
    log: str = ""
    operations: Rows = ()
    answers: bytes = b""
