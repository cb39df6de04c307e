"""A finished run as the statistics see it: rows of the results, with the samples of their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.experiment.conditions import CLEAN
from harness.stats.effects import Effect, Outcome, effects, factors_of, unmatched
from harness.stats.paired import Comparison, System, compare, system
from harness.stats.sample import Sample

Row = Mapping[str, Any]


@dataclass(frozen=True)
class AgainstBaseline:
    """A cell compared with its full-precision baseline.

    Attributes:
        baseline: cell id of the baseline.
        comparison: the cell minus the baseline.
        p_holm: the permutation p-value, adjusted for all cells of the experiment; NaN where nothing was tested.
    """

    baseline: str
    comparison: Comparison
    p_holm: float


class Study:
    """All finished cells of an experiment.

    Args:
        rows: of the results; those that are not `done` are left out.
        read: gives the sample of a cell by its id; asked once for each that is needed.
    """

    def __init__(self, rows: Sequence[Row], read: Callable[[str], Sample]) -> None:
        self.rows = [row for row in rows if row["status"] == "done"]
        self.stopped = [row for row in rows if row["status"] == "stopped" and row["reference_words"]]
        """Those that were ended early: their rates are of what was transcribed, so that they are compared with none."""
        self._read = read
        self._samples: dict[str, Sample] = {}

    @property
    def scored(self) -> list[Row]:
        """The rows whose references have words, so that they have a word error rate."""
        return [row for row in self.rows if row["reference_words"]]

    def system(self, cell_id: str) -> System:
        """The word error rate of a finished cell, with its interval."""
        return system(self.sample(cell_id))

    def sample(self, cell_id: str) -> Sample:
        """The utterances of a finished cell."""
        if cell_id not in self._samples:
            self._samples[cell_id] = self._read(cell_id)
        return self._samples[cell_id]

    def baseline_of(self, row: Row) -> Row | None:
        """The full-precision row of the same model, precision, device and split; `None` for that row itself."""
        same = ("model", "revision", "dtype", "device", "dataset", "split")
        for other in self.rows:
            if other["backend"] == "none" and all(_equal(other[key], row[key]) for key in same):
                return None if other["cell_id"] == row["cell_id"] else other
        return None

    @cached_property
    def against_baselines(self) -> dict[str, AgainstBaseline]:
        """Every cell that has a baseline against it, by cell id; Holm's adjustment is over all that were tested.

        Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure" (statsmodels).
        """
        baselines = {
            row["cell_id"]: baseline["cell_id"]
            for row in self.scored
            if (baseline := self.baseline_of(row)) is not None
        }
        compared = {cell: compare(self.sample(cell), self.sample(baseline)) for cell, baseline in baselines.items()}
        adjusted = holm({cell: c.difference.p_permutation for cell, c in compared.items()})
        return {cell: AgainstBaseline(baselines[cell], compared[cell], adjusted[cell]) for cell in compared}

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """The cells that are quantized, with the baselines' errors; casts and full precision have no factors."""
        found = []
        for row in self.scored:
            baseline = None if row["scheme"] == "none" else self.baseline_of(row)
            if baseline is not None:
                found.append(self._outcome(row, self.sample(row["cell_id"]), self.sample(baseline["cell_id"])))
        return found

    def _outcome(self, row: Row, own: Sample, theirs: Sample) -> Outcome:
        condition = row.get("condition") or ""
        return Outcome(
            row["cell_id"],
            row["split"],
            factors_of(row) | {"condition": condition or CLEAN},
            own.blocks[:, 0],
            theirs.blocks[:, 0],
            own.blocks[:, 1],
            frozenset(own.block_names),
            row["split"].removesuffix(f" + {condition}"),
        )

    @cached_property
    def effects(self) -> list[Effect]:
        """The effects of single factors among the outcomes."""
        return effects(self.outcomes)

    @cached_property
    def unmatched(self) -> list[str]:
        """The factors with several levels but no matched pair."""
        return unmatched(self.outcomes)


def _equal(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other) or (one is None and other is None)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjustment of all p-values that are there; NaN stays NaN."""
    from statsmodels.stats.multitest import multipletests

    tested = [cell for cell, p in p_values.items() if not np.isnan(p)]
    adjusted = multipletests([p_values[cell] for cell in tested], method="holm")[1] if tested else []
    return dict.fromkeys(p_values, float("nan")) | dict(zip(tested, map(float, adjusted), strict=True))
