"""One system on one test set, as columns: what the statistics are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.metrics import ErrorRate
from harness.stats.resampling import Values

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Transcribed:
    """One utterance, scored.

    Attributes:
        id: of the utterance; the same in every system.
        speaker: `None` where it is not known.
        reference, hypothesis: normalised words, separated by spaces.
        alignment: of the two, as `harness.metrics.align` writes it.
        errors: counts after jiwer.
        seconds: of the recording that were heard; 0 where that is not known.
    """

    id: str
    speaker: str | None
    reference: str
    hypothesis: str
    alignment: str
    errors: ErrorRate
    seconds: float = 0.0


@dataclass(frozen=True)
class Sample:
    """All utterances of one system on one test set, ordered by id."""

    utterances: tuple[Transcribed, ...]

    @classmethod
    def of(cls, utterances: Iterable[Transcribed]) -> Sample:
        """The sample of `utterances` in any order."""
        return cls(tuple(sorted(utterances, key=lambda u: u.id)))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Sample:
        """The sample of a stored cell, from the rows of its `utterances.parquet`."""
        return cls.of(
            Transcribed(
                row["id"],
                row["speaker"],
                row["normalised_reference"],
                row["normalised_hypothesis"],
                row["alignment"],
                ErrorRate(row["substitutions"], row["deletions"], row["insertions"], row["reference_words"]),
                row.get("heard_seconds", row.get("seconds", 0.0)),
            )
            for row in rows
        )

    @property
    def total(self) -> ErrorRate:
        """Errors of the whole test set."""
        return sum((u.errors for u in self.utterances), ErrorRate())

    @cached_property
    def block_names(self) -> tuple[str, ...]:
        """What is resampled: the speakers in alphabetical order, or all ids where there are not two known ones."""
        return tuple(sorted(set(self._block_of_each)))

    @property
    def blocked_by(self) -> str:
        """`speaker` or `utterance`."""
        return "speaker" if _has_speakers(self.utterances) else "utterance"

    @cached_property
    def blocks(self) -> Counts:
        """Errors and reference words summed by block, (blocks, 2), in the order of `block_names`."""
        positions = {name: i for i, name in enumerate(self.block_names)}
        sums = np.zeros((len(positions), 2), dtype=np.int64)
        for name, utterance in zip(self._block_of_each, self.utterances, strict=True):
            sums[positions[name]] += (utterance.errors.errors, utterance.errors.reference)
        return sums

    @cached_property
    def _block_of_each(self) -> list[str]:
        by_speaker = _has_speakers(self.utterances)
        return [str(u.speaker) if by_speaker else u.id for u in self.utterances]


def _has_speakers(utterances: Sequence[Transcribed]) -> bool:
    speakers = {u.speaker for u in utterances}
    return None not in speakers and len(speakers) > 1


def by_speaker(rows: Iterable[Mapping[str, Any]], speakers: Iterable[Sequence[str]]) -> tuple[Values, Values]:
    """Word errors and reference words of the first speakers of whom all utterances are there, (speakers,) each.

    Args:
        rows: of stored utterances; one that could not be decoded counts nowhere.
        speakers: the ids of the utterances of each.
    """
    by_id = {row["id"]: row for row in rows}
    found = []
    for own in speakers:
        if any(name not in by_id for name in own):
            break
        judged = [by_id[name] for name in own if not by_id[name]["error"]]
        errors = sum(row["substitutions"] + row["deletions"] + row["insertions"] for row in judged)
        found.append((errors, sum(row["reference_words"] for row in judged)))
    errors, words = np.array(found, dtype=float).reshape(-1, 2).T
    return errors, words


def check_paired(a: Sample, b: Sample) -> None:
    """Make sure that two samples are of the same utterances and words.

    Raises:
        DataError: they are not; says where they differ first.
    """
    if not a.utterances:
        raise DataError("there are no utterances to compare")
    ids_a, ids_b = {u.id for u in a.utterances}, {u.id for u in b.utterances}
    if ids_a != ids_b:
        stranger = min(ids_a ^ ids_b)
        raise DataError(f"the two are of different test sets: utterance {stranger} is in one of them only")
    for one, other in zip(a.utterances, b.utterances, strict=True):
        if one.reference != other.reference:
            raise DataError(f"the reference of utterance {one.id} differs: were the two normalised in the same way?")
    if not a.total.reference:
        raise DataError("the references have no words, so there is no word error rate to compare")
