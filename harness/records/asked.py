"""The experiment that a run was asked for, read again from what was kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from harness.errors import OutputError
from harness.experiment.config import Experiment
from harness.experiment.tables import scorer_of
from harness.metrics import Scorer
from harness.records.layout import EXPERIMENT


class Asked(Protocol):
    """A run, as far as it keeps what it was asked for."""

    path: Path

    def experiment(self) -> dict[str, Any]:
        """The experiment, as JSON values."""
        ...


def scorer_as_asked(run: Asked, split: str, spellings: bytes | None = None) -> Scorer:
    """How the utterances of a test set are scored; see `harness.experiment.tables.scorer_of`.

    Raises:
        OutputError: as for `recorded_experiment`.
    """
    experiment = recorded_experiment(run)
    data = next(data for data in experiment.data if data.label == split)
    return scorer_of(experiment.scoring, data, experiment.decoding, spellings)


def recorded_experiment(run: Asked) -> Experiment:
    """The experiment that a run was last asked for.

    Raises:
        OutputError: what was kept of it is missing, was changed, or is not what this version writes.
    """
    try:
        return Experiment.model_validate(run.experiment(), strict=False)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise OutputError(f"{run.path / EXPERIMENT}: {key} is not what this version writes; run it again") from None
