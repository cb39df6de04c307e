"""Finished batches of a cell that is not finished yet, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.files import seal, sealed
from harness.store import PARTS


@dataclass(frozen=True)
class Part:
    """What one planned batch came to.

    Attributes:
        rows: one for every utterance, as they are stored.
        prompt: tokens that the decoder started with.
        measured: seconds of feature extraction and of decoding, windows encoded, and peaks of memory in bytes.
        drafted: utterances whose decoding checked a draft.
        alone: whether nothing ran beside it.
    """

    rows: Sequence[Mapping[str, Any]]
    prompt: Sequence[int]
    measured: Mapping[str, float | None]
    drafted: int
    alone: bool


class Parts:
    """The parts of one cell in a run directory.

    Args:
        run_directory: of the run.
        cell_id: of the cell.
    """

    def __init__(self, run_directory: Path, cell_id: str) -> None:
        self._directory = run_directory / PARTS / cell_id

    def load(self, index: int) -> Part | None:
        """What a planned batch came to; `None` where it is not finished, or was changed since."""
        path = sealed(self._directory, f"{index:05}", ".json")
        return None if path is None else Part(**json.loads(path.read_text(encoding="utf-8")))

    def save(self, index: int, part: Part) -> None:
        """Keep a finished batch.

        Raises:
            OutputError: it cannot be written.
        """
        text = json.dumps(asdict(part))
        seal(self._directory, f"{index:05}", ".json", lambda path: path.write_text(text, encoding="utf-8"))
