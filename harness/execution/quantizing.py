"""How a worker quantizes the configuration of a task, and what is known of it beforehand."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

from backends import Quantized, quantize_spec, resolve
from backends.core.base import Sizing
from backends.core.registry import get
from harness import cost
from harness.execution.task import Task
from harness.recognition.calibrating import calibration_inputs
from harness.recognition.models import Recognizer


def known_too_large(task: Task, recognizer: Recognizer) -> int | None:
    """Bytes of a model larger than wanted, where that is known without calibrating; the model stays as it was."""
    configuration = task.configuration
    backend = get(configuration.backend)
    if task.largest is None or not configuration.calibrates or not isinstance(backend, Sizing):
        return None
    quick = backend.sized_as(*resolve(configuration.spec, configuration.backend, configuration.option_values))
    if quick is None:
        return None
    copy = deepcopy(recognizer.model)
    size: int = quantize_spec(copy, quick, configuration.backend, configuration.option_values).report.size_bytes
    return size if size > task.largest else None


def timed_quantize(task: Task, recognizer: Recognizer) -> tuple[Quantized, dict[str, Any]]:
    """Quantized, and what that took: of memory the peak since now, whatever was tried out before."""
    cost.reset_peak_memory()
    began = time.perf_counter()
    quantized = quantize(task, recognizer)
    return quantized, {"quantize_seconds": time.perf_counter() - began, "quantize_peak_bytes": cost.peak_memory()}


def quantize(task: Task, recognizer: Recognizer) -> Quantized:
    """The recogniser's model in place, calibrated where that is needed."""
    configuration = task.configuration
    inputs = None
    if configuration.calibrates:
        assert task.calibration is not None, "the plan refuses it without calibration speech"
        inputs = calibration_inputs(recognizer, task.calibration, task.decoding)
    return quantize_spec(
        recognizer.model, configuration.spec, configuration.backend, configuration.option_values, inputs
    )
