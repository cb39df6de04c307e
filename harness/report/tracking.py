"""Results in a tracker: trackio, which keeps them on this machine and has the interface of Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

from harness.errors import ConfigError
from harness.report.labels import label, telling

Row = Mapping[str, Any]
_ASKED = (
    "model", "revision", "dtype", "backend", "scheme", "format", "bits", "method", "granularity", "symmetric",
    "activations", "outputs", "modules", "parts", "rest", "recipe", "options", "calibration_seed",
    "calibration_noise_db", "device",
)  # fmt: skip
_OF_THE_MODEL = ("size_bytes", "size_reduction", "size_reduction_published", "effective_bits", "quantize_seconds")
_OF_THE_SPLIT = (
    "wer", "wer_low", "wer_high", "cer", "difference", "difference_low", "difference_high", "p_holm", "non_inferior",
    "nll", "same_top", "divergence_mean", "loop_rate", "empty_rate", "rtfx", "bops_per_audio_second",
    "memory_io_bytes_per_audio_second",
)  # fmt: skip


def check_tracker() -> None:
    """Refuse to track where trackio is not installed.

    Raises:
        ConfigError: says what to install.
    """
    if find_spec("trackio") is None:
        raise ConfigError('--track: trackio is not installed; pip install ".[trackio]" in a checkout')


def track(rows: Sequence[Row], project: str) -> int:
    """Log what is finished to a project: a run a configuration, its numbers below the name of each test set.

    A configuration that is there with all its test sets is not logged twice.

    Args:
        rows: of the results.
        project: of the tracker, made if it is not there.

    Returns:
        How many configurations were logged.
    """
    import trackio

    there = _names(project)
    own: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "done":
            own.setdefault(row["configuration_id"], []).append(row)
    shown, logged = telling(rows), 0
    for identifier, found in own.items():
        name = f"{label(found[0], shown)} {identifier} ({', '.join(row['split'] for row in found)})"
        if name in there:
            continue
        config = {key: found[0].get(key) for key in _ASKED if _known(found[0].get(key))}
        numbers = {key: found[0][key] for key in _OF_THE_MODEL if _known(found[0].get(key))}
        for row in found:
            numbers |= {f"{row['split']}/{key}": row[key] for key in _OF_THE_SPLIT if _known(row.get(key))}
        with redirect_stdout(StringIO()):  # it greets with every run
            trackio.init(project, name=name, config=config, embed=False, auto_log_cpu=False, auto_log_gpu=False)
            trackio.log(numbers)
            trackio.finish()
        logged += 1
    return logged


def _names(project: str) -> set[str]:
    """Of the runs that the project has."""
    import trackio

    try:
        return {run.name for run in trackio.Api().runs(project)}
    except ValueError:  # there is no such project yet
        return set()


def _known(value: Any) -> bool:
    return value is not None and value == value
