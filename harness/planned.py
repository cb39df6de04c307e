"""What a recorded experiment planned: its configurations and cells again, from what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.cell import Configuration
from harness.config import Data, Experiment
from harness.plan import recorded_configurations


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
            "model": configuration.model.label,
            "split": data.label,
        }
        for configuration, data in planned_cells(experiment)
    ]
