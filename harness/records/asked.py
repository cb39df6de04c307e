"""The experiment that a run was asked for, read again from what was kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from harness.errors import OutputError
from harness.experiment.config import Experiment
from harness.records.layout import EXPERIMENT


class Asked(Protocol):
    """A run, as far as it keeps what it was asked for."""

    path: Path

    def experiment(self) -> dict[str, Any]:
        """The experiment, as JSON values."""
        ...


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
