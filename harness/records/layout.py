"""The names of what stands in a run directory, and a cell as it is handed over to be written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
LEASES = "leases"
"""Who does what now."""
ANSWERS = "answers.safetensors"
PARTS = "parts"
"""Finished batches of unfinished cells."""


@dataclass(frozen=True)
class CellRecord:
    """All that is kept of one cell.

    Attributes:
        cell_id: names its directory.
        cell: identity, status, reason, and measured values, as JSON values.
        utterances: one row per utterance: id, speaker, reference, hypothesis, both normalised,
            alignment, tokens, counts, and the reference's likelihood; or the reason why it could not be heard.
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
