"""What a recorded experiment planned: its configurations and cells again, from what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.cell import Configuration
from harness.config import Data, Experiment
from harness.errors import OutputError
from harness.plan import recorded_configurations
from harness.store import EXPERIMENT

if TYPE_CHECKING:
    from harness.reading import RecordedRun


def asked_for(run: RecordedRun) -> Experiment:
    """The experiment of a recorded run.

    Raises:
        OutputError: it is missing, was changed, or is not as this version writes it.
    """
    try:
        return Experiment.model_validate(run.experiment(), strict=False)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise OutputError(f"{run.path / EXPERIMENT}: {key} is not what this version writes; run it again") from None


def ran_on(experiment: Experiment, rows: Sequence[Mapping[str, Any]]) -> Experiment:
    """The experiment with the device that it ran on, where it left that to the machine."""
    devices = {row["device"] for row in rows}
    if experiment.run.device != "auto" or len(devices) != 1:
        return experiment
    return experiment.model_copy(update={"run": experiment.run.model_copy(update={"device": devices.pop()})})


def planned_cells(experiment: Experiment) -> list[tuple[Configuration, Data]]:
    """Every configuration on every split, in the order of the results.

    Raises:
        ConfigError: a block names something that is not known here.
    """
    return [(c, data) for c in recorded_configurations(experiment) for data in experiment.data]


def rows_of_plan(experiment: Experiment) -> list[Mapping[str, Any]]:
    """The planned cells as the reports name them."""
    return [
        {
            "configuration_id": configuration.id,
            "configuration": configuration.label,
            "model": configuration.model.path,
            "split": data.label,
        }
        for configuration, data in planned_cells(experiment)
    ]
