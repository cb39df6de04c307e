"""A search: what is wanted, the race of those that are small enough, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from backends import Supported
from harness.execution.racing import Racing
from harness.experiment.cell import CellStatus
from harness.stats.race import Goal, MostAccurate, Round, Rules, SmallestWithin, rounds


@dataclass(frozen=True)
class Wanted:
    """The most accurate model of at most so many bytes, or else the smallest whose WER is at most so much beyond.

    Attributes:
        largest: bytes.
        limit: of WER minus full precision's, a fraction.
        confidence, tolerance: see `harness.stats.race.Rules`.
    """

    largest: int | None
    limit: float | None
    confidence: float
    tolerance: float

    def goal(self, racing: Racing, candidates: Sequence[str]) -> Goal:
        """What these candidates race for."""
        words = racing.counts(racing.baseline(candidates[0]))[1]
        rules = Rules(words, tuple(racing.stages), len(candidates), self.confidence, self.tolerance)
        if self.limit is None:
            return MostAccurate(rules)
        baselines = {name: racing.counts(racing.baseline(name))[0] for name in candidates}
        return SmallestWithin(rules, baselines, {name: racing.size(name) for name in candidates}, self.limit)


@dataclass(frozen=True)
class Found:
    """What a search came to; configurations by the ids of their cells.

    Attributes:
        candidates: all that could be tried.
        feasible: those that raced, the smallest first.
        rounds: of the race.
        failed: status and reason of those that could not be measured.
    """

    candidates: Sequence[str]
    feasible: Sequence[str]
    rounds: Sequence[Round]
    failed: Mapping[str, tuple[CellStatus, str]]

    @property
    def winner(self) -> str | None:
        """The last leader, where there is one."""
        return self.rounds[-1].standing.leader if self.rounds else None

    @property
    def whole(self) -> bool:
        """Whether there is a winner of all that can be done at all."""
        return self.winner is not None and all(status is CellStatus.UNSUPPORTED for status, _ in self.failed.values())

    def used(self, racing: Racing) -> tuple[int, int]:
        """The utterances that were looked at, full precision's included; and those of the full grid."""
        cells = {name: racing.cells[name] for name in (*self.candidates, *map(racing.baseline, self.candidates))}
        upto = {name: racing.stages[one.speakers] for one in self.rounds for name in one.raced}
        upto |= {name: len(cell.batches) for name, cell in cells.items() if cell.configuration.is_baseline}
        used = sum(len(batch) for name, batches in upto.items() for batch in cells[name].batches[:batches])
        return used, sum(cell.utterances for cell in cells.values())


def candidates_of(racing: Racing, wanted: Wanted) -> list[str]:
    """All that can be done here; full precision too, unless it is what others are held against."""
    return [
        name
        for name, cell in racing.cells.items()
        if isinstance(cell.configuration.capability, Supported)
        and (wanted.limit is None or not cell.configuration.is_baseline)
    ]


def search(racing: Racing, wanted: Wanted, told: Callable[[Round], None]) -> Found:
    """Quantize all candidates, which gives their sizes, and race those that are small enough.

    Raises:
        ConfigError: full precision cannot be measured.
    """
    candidates = candidates_of(racing, wanted)
    racing.bring(candidates, next(iter(racing.stages)), wanted.largest)
    failed = racing.failed(candidates)
    sizes = {name: racing.size(name) for name in candidates if name not in failed}
    small = [name for name in sizes if wanted.largest is None or sizes[name] <= wanted.largest]
    feasible = sorted(small, key=lambda name: sizes[name])
    done = []
    if feasible:
        for one in rounds(wanted.goal(racing, feasible), feasible, racing.fetch):
            told(one)
            done.append(one)
    return Found(candidates, feasible, done, racing.failed(candidates))
