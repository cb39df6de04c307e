"""What a recorded experiment planned: its configurations and cells again, from what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.experiment.cell import Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import recorded_configurations
from harness.experiment.tables import Data


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
