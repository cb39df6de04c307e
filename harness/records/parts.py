"""Finished batches of a cell that is not finished yet, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.records.files import seal, sealed
from harness.records.layout import PARTS

ANSWERS_SUFFIX = ".safetensors"
_SIZE = "size"


@dataclass(frozen=True)
class Part:
    """What one planned batch came to.

    Attributes:
        rows: one for every utterance, as they are stored.
        prompt: tokens that the decoder started with.
        measured: seconds of feature extraction and of decoding, windows encoded, and peaks of memory in bytes.
        drafted: utterances whose decoding checked a draft.
        alone: whether nothing ran beside it.
        divergences: from the baseline, of every token of the references (see `harness.recognition.likelihood`), nats.
    """

    rows: Sequence[Mapping[str, Any]]
    prompt: Sequence[int]
    measured: Mapping[str, float | None]
    drafted: int
    alone: bool
    divergences: Sequence[float] = field(default_factory=list)


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

    def size(self) -> int | None:
        """Bytes of the quantized model; `None` where it is not known."""
        path = sealed(self._directory, _SIZE, ".json")
        return None if path is None else int(json.loads(path.read_text(encoding="utf-8")))

    def save_size(self, size_bytes: int) -> None:
        """Keep the bytes of the quantized model, of which perhaps nothing is transcribed.

        Raises:
            OutputError: they cannot be written.
        """
        seal(self._directory, _SIZE, ".json", lambda path: path.write_text(json.dumps(size_bytes), encoding="utf-8"))

    def count(self) -> int:
        """How many batches are finished."""
        return len(list(self._directory.glob("[0-9]*.json")))

    def answers(self, index: int) -> Path | None:
        """The file of a batch's answers to the references; `None` where there is none, or it was changed since."""
        return sealed(self._directory, f"{index:05}", ANSWERS_SUFFIX)

    def save_answers(self, index: int, write: Callable[[Path], object]) -> None:
        """Keep the answers of a batch, before the batch itself, so that whoever finds it finds them too.

        Raises:
            OutputError: they cannot be written.
        """
        seal(self._directory, f"{index:05}", ANSWERS_SUFFIX, write)

    def save(self, index: int, part: Part) -> None:
        """Keep a finished batch.

        Raises:
            OutputError: it cannot be written.
        """
        text = json.dumps(asdict(part))
        seal(self._directory, f"{index:05}", ".json", lambda path: path.write_text(text, encoding="utf-8"))
