"""What a run measured of a saved model, for its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.core.card import Evaluated
from backends.core.manifest import read_manifest
from backends.core.serial import spec_to_dict
from harness._printing import counted
from harness.errors import ConfigError
from harness.experiment.planned import planned_cells
from harness.experiment.tables import Model
from harness.records.asked import recorded_experiment
from harness.report.leaderboard import entries
from harness.report.numbers import DASH, percent, points_interval

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

    from harness.records.reading import RecordedRun

Row = dict[str, Any]


class Measured(NamedTuple):
    """The model that was quantized, what was measured of it, and what of this the Open ASR Leaderboard takes."""

    model: Model
    evaluated: Evaluated
    entries: Sequence[EvalResultEntry]


def measured(run: RecordedRun, directory: Path) -> Measured:
    """What a run knows of the model that is saved in a directory: the configuration with its spec, options and size.

    Raises:
        ConfigError: the run has no finished cell of it, or of several models or calibrations.
        CheckpointError: the model is not what was saved.
    """
    manifest = read_manifest(directory)
    own = (manifest["backend"], manifest["spec"], manifest["options"])
    experiment = recorded_experiment(run)
    models = {
        configuration.id: configuration.model
        for configuration, _ in planned_cells(experiment)
        if (configuration.backend, _as_stored(spec_to_dict(configuration.spec)), configuration.option_values) == own
    }
    size = manifest["report"]["size_bytes"]
    results = run.results()
    rows = [r for r in results if r["configuration_id"] in models and r["status"] == "done" and r["size_bytes"] == size]
    found = {row["configuration_id"]: row["configuration"] for row in rows}
    if len(found) != 1:
        which = f"several such configurations: {'; '.join(found.values())}" if found else "no finished cell of its spec"
        raise ConfigError(f"{run.path}: the model in {directory} has {size:,} bytes, and there is {which}")
    (configuration,) = found
    baselines = {row["cell_id"]: row for row in results}
    text = "\n\n".join([_table(rows, baselines), _conditions(run, rows), _left_out(rows)])
    date = str(run.environment(rows[0]["cell_id"])["finished"])
    return Measured(models[configuration], Evaluated(tuple(map(_result, rows)), text), entries(rows, experiment, date))


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _result(row: Row) -> EvalResult:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="automatic-speech-recognition",
        dataset_type=row["dataset"].partition("/")[0],
        dataset_name=row["dataset"],
        dataset_split=row["split"],
        dataset_args={"utterances": int(row["utterances"])},
        metric_type="wer",
        metric_name="WER, %",
        metric_value=round(100 * row["wer"], 2),
    )


def _table(rows: Sequence[Row], baselines: dict[str, Row]) -> str:
    lines = [
        "| test set | utterances | WER, % | full precision | difference, points | utterances worse, better |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        baseline = baselines.get(row["baseline_cell_id"] or "")
        interval = f"[{percent(row['wer_low'])}, {percent(row['wer_high'])}]"
        lines.append(
            f"| {row['dataset']} | {int(row['utterances']):,} | {percent(row['wer'])} {interval} | "
            f"{DASH if baseline is None else percent(baseline['wer'])} | {_difference(row)} | {_changes(row)} |"
        )
    return "\n".join(["## What was measured", "", *lines])


def _difference(row: Row) -> str:
    if row["identical"]:
        return "identical"
    return points_interval(row["difference"], row["difference_low"], row["difference_high"])


def _changes(row: Row) -> str:
    counts = [row.get("utterances_worse"), row.get("utterances_better")]
    return DASH if None in counts else ", ".join(f"{int(count)}" for count in counts)  # type: ignore[arg-type]


def _conditions(run: RecordedRun, rows: Sequence[Row]) -> str:
    environment = run.environment(rows[0]["cell_id"])
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    speakers = {row["blocks"] for row in rows if row.get("blocked_by") == "speaker"}
    who = f", resampled over {counted(int(max(speakers)), 'speaker')}" if speakers else ""
    return (
        f"Intervals are of 95 %{who}; the difference is paired by utterance. Measured on {environment['processor']}, "
        f"{str(environment['finished'])[:10]}, with Python {environment['python']}, {packages}.\n\n"
        f"```console\n{environment['command']}\n```"
    )


def _left_out(rows: Sequence[Row]) -> str:
    """What the card says nothing of."""
    untimed = all(row.get("timed_rtfx") is None for row in rows)
    speed = ["speed (`python -m harness.latency` measures it)"] if untimed else []
    return f"Not measured: {', '.join([*speed, 'other speech than this'])}."
