"""What a cell takes from its baseline's cell: transcripts as drafts, and answers to the references.

The baseline's may be decoded at the same time by another worker: then its transcripts are waited for until the cell is
finished, and its answers batch by batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.cost.operations import generated
from harness.experiment.cell import CellStatus
from harness.recognition.likelihood import Answers, load_answers
from harness.records.layout import LEASES
from harness.records.leases import is_held
from harness.records.parts import Parts
from harness.records.store import StoredRun

T = TypeVar("T")
_PAUSE = 0.2
_PATIENCE = 1800.0
"""Seconds without a new batch after which the baseline is not waited for any more: who decodes it may be stopped."""


class Baseline:
    """The baseline's cell of one cell.

    Args:
        run_directory: of the run.
        cell_id: of the baseline's cell; `None` where there is none.
        waiting: called again and again while it is waited for.

    Attributes:
        waited: seconds so far.
    """

    def __init__(self, run_directory: Path, cell_id: str | None, waiting: Callable[[], None]) -> None:
        self._run, self._cell, self._waiting = StoredRun(run_directory), cell_id, waiting
        self._parts = Parts(run_directory, cell_id or "")
        self._given_up = False
        self.waited = 0.0

    def transcripts(self) -> dict[str, Sequence[int]]:
        """Tokens after the prompt by utterance, once the cell is finished; empty where it is not done.

        Without a prompt in front, stored tokens are those after it (`harness.cost.operations.generated`).
        """
        stored = self._awaited(self._done)
        if stored is None:
            return {}
        return {row["id"]: generated(row["tokens"], stored["prompt"]) for row in self.rows() or ()}

    def rows(self) -> list[dict[str, Any]] | None:
        """The rows of its utterances, where it is done by now; `None` where it is not, or there is none."""
        if self._cell is None or self._done() is None:
            return None
        return [*self._run.utterances(self._cell), *self._run.undecodable(self._cell)]

    def answers(self, index: int, ids: Sequence[str]) -> Mapping[str, Answers]:
        """What the baseline answers to the references of a planned batch; empty where it is not done."""
        return self._awaited(lambda: self._answers(index, ids)) or {}

    def _answers(self, index: int, ids: Sequence[str]) -> Mapping[str, Answers] | None:
        """Of a batch that is finished, whether the cell is or not; `None` where it is neither."""
        assert self._cell is not None
        try:
            if self._done() is not None:
                path = self._run.answers(self._cell)
                return {} if path is None else load_answers(path, ids)
            path = self._parts.answers(index)
            return None if path is None else load_answers(path, ids)
        except FileNotFoundError:  # the cell was finished at this moment
            return None

    def _done(self) -> dict[str, Any] | None:
        """The cell where it is done; one that failed may be done again at this moment."""
        assert self._cell is not None
        return self._run.finished(self._cell, CellStatus.DONE)

    def _awaited(self, look: Callable[[], T | None]) -> T | None:
        """What `look` finds, as long as somebody decodes the baseline; who is given up is not waited for again."""
        if self._cell is None:
            return None
        began, known = time.monotonic(), -1
        while (found := look()) is None:
            done = self._parts.count()
            if done != known:
                began, known = time.monotonic(), done
            self._given_up |= time.monotonic() - began > _PATIENCE
            if self._given_up or not is_held(self._run.path / LEASES, self._cell):
                return look()
            self._waiting()
            time.sleep(_PAUSE)
            self.waited += _PAUSE
        return found
