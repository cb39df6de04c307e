"""Quantized models that a search keeps from round to round, since calibrating takes minutes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends import AsrQuantError, Quantized, load
from backends.core.base import Form
from harness.execution.task import Task
from harness.records.files import read_json, temporary_beside, write_json
from harness.records.layout import MODELS

_MEASURED = "measured.json"


def place_of(run_directory: Path, cell_id: str) -> Path:
    """Where the quantized model of a cell is kept."""
    return run_directory / MODELS / cell_id


def kept_or(
    task: Task, quantize: Callable[[], tuple[Quantized, Mapping[str, Any]]]
) -> tuple[Quantized, Mapping[str, Any]]:
    """The quantized model of a task and what was measured when it was made: as it was kept, or made now.

    It is kept where a cell is left for later rounds and calibrated; one that cannot be read is made again.
    """
    configuration = task.configuration
    if task.batches is None or not configuration.calibrates or configuration.form is not Form.LAYERS:
        return quantize()
    place = place_of(task.run_directory, task.cells[0].cell_id)
    if place.is_dir():
        try:
            known, found = read_json(place / _MEASURED), load(place)
        except (AsrQuantError, OSError):
            shutil.rmtree(place, ignore_errors=True)
        else:
            model: Any = found.model
            model.to(configuration.device)
            return found, known
    quantized, measured = quantize()
    temporary = temporary_beside(place)
    place.parent.mkdir(exist_ok=True)
    quantized.save(temporary)
    write_json(temporary / _MEASURED, measured)
    temporary.rename(place)
    return quantized, measured
