"""Finished cells as rows of the results: one row per planned cell, computed from what is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cache
from statistics import median
from typing import TYPE_CHECKING, Any

from harness import datasets
from harness.experiment.cell import Cell, CellStatus, spec_columns
from harness.experiment.tables import Data, Model
from harness.records.finished import Finished, finished_cells
from harness.records.reading import RecordedRun

if TYPE_CHECKING:
    from harness.records.recording import RunDirectory
    from harness.stats import AgainstBaseline, Sample, System

MEASURED = (
    "size_bytes",
    "file_bytes",
    "size_reduction",
    "effective_bits",
    "same_top",
    "divergence_mean",
    "divergence_p99",
    "divergence_max",
    "quantize_seconds",
    "quantize_peak_bytes",
    "audio_seconds",
    "feature_seconds",
    "decode_seconds",
    "compute_seconds",
    "rtfx",
    "drafted",
    "encoder_passes",
    "cut",
    "at_limit",
    "peak_rss_bytes",
    "peak_device_bytes",
    "macs_per_audio_second",
    "bops_per_audio_second",
    "memory_io_bytes_per_audio_second",
    "encoder_bops",
    "decoder_step_bops",
    "encoder_memory_io_bytes",
    "decoder_step_memory_io_bytes",
    "self_attention_cache_bytes",
    "cross_attention_cache_bytes",
)
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
LATENCY = {
    f"{measure}{batch}": f"{column}{batch}"
    for batch in ("", "_batch")
    for measure, column in (
        ("encoder", "latency_encoder_ratio"),
        ("decoder_step", "latency_decoder_step_ratio"),
        ("first_token", "latency_first_token_ratio"),
        ("rtfx", "rtfx_ratio"),
    )
}
"""What `harness.latency` measured, relative to the baseline, at batch 1 and at the experiment's: measure to column."""
SPEED = {
    "timed_rtfx": "median",
    "timed_rtfx_low": "lower_quartile",
    "timed_rtfx_high": "upper_quartile",
}
"""Seconds of audio per second at batch 1, by `harness.latency`, the baseline's too: column to statistic."""
DIFFERENCE = (
    "baseline_cell_id",
    "identical",
    "utterances_changed",
    "utterances_worse",
    "utterances_better",
    "errors_added",
    "errors_removed",
    "difference",
    "difference_low",
    "difference_high",
    "p_permutation",
    "p_holm",
    "relative",
    "relative_low",
    "relative_high",
    "non_inferior",
    "detectable",
    "mapsswe_segments",
    "mapsswe_z",
    "mapsswe_p",
    "blocked_by",
    "blocks",
)
"""Columns of the comparison with the full-precision baseline; see `harness.stats.Comparison`."""
HALLUCINATED = (
    "hallucinated_per_minute",
    "hallucinated_share",
    "hallucinated_difference",
    "hallucinated_low",
    "hallucinated_high",
    "hallucinated_p",
)
"""Columns of words where nothing was said, and of their difference from full precision; see `harness.stats`."""


def make_results(directory: RunDirectory, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Write the results of `cells`, and return their rows; of runners that end together, one does it for all.

    Raises:
        OutputError: they cannot be written, or a cell is not what was written.
    """
    with directory.making_results():
        rows = directory.results_made_last(cell.cell_id for cell in cells)
        if rows is None:
            rows = result_rows(directory, cells)
            directory.write_results(rows)
        return rows


def result_rows(run: RecordedRun, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row for every finished cell, in the order of `cells`, with its comparison with its baseline."""
    return _rows(list(finished_cells(run, cells)), _timed(run.latency()))


def _rows(finished: Sequence[Finished], times: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    rows = []
    for one in finished:
        timed = times.get(one.cell.configuration.id, {})
        columns = {column: timed.get(column) for column in (*LATENCY.values(), *SPEED)}
        rows.append({**_row(one.cell, one.document, one.scores), **columns})
    samples = {one.cell.cell_id: one.sample for one in finished}
    return _with_statistics(rows, samples)


def _row(cell: Cell, stored: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    reference = cell.configuration.reference
    return {
        "cell_id": cell.cell_id,
        "status": stored["status"],
        "reason": stored["reason"],
        "configuration": cell.configuration.label,
        "configuration_id": cell.configuration.id,
        **spec_columns(cell.configuration),
        "dataset": f"{cell.data.dataset}/{cell.data.split}",
        "corpus": _corpus(cell.data),
        "split": cell.data.label,
        "condition": cell.data.condition.name,
        "noise_db": cell.data.condition.noise_db,
        **scores,
        **{key: stored["measured"].get(key) for key in MEASURED},
        **_published(cell.configuration.model, stored["measured"]),
        "reference_wer": None if reference is None else _reference_wer(reference.wer, cell.data.label),
        "reference_source": None if reference is None else reference.source,
    }


def _published(model: Model, measured: dict[str, Any]) -> dict[str, Any]:
    """In which dtype the weights were published, and what is saved against that."""
    dtype = model.published_dtype or measured.get("narrowest_dtype")
    size, numbers = measured.get("size_bytes"), measured.get("checkpoint_parameters")
    reduction = None if None in (dtype, size, numbers) else 1 - size / (numbers * _BYTES[dtype])  # type: ignore[index,operator]
    return {"published_dtype": dtype, "size_reduction_published": reduction}


@cache
def _corpus(data: Data) -> str:
    """The corpus of a test set; finding a data set looks through all installed packages, so it is done once."""
    return datasets.get(data.dataset).corpus(data)


def _timed(latency: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By configuration and column, what `latency.json` holds; of several numbers of threads, of the model's fewest.

    A baseline is timed beside every configuration of its model: its speed is the median of these.
    """
    done = [row for row in latency.get("rows", []) if row["status"] == CellStatus.DONE]
    fewest = {row.get("baseline_id"): row["threads"] for row in sorted(done, key=lambda row: -row["threads"])}
    columns: dict[str, dict[str, float]] = {}
    baselines: dict[str, list[Mapping[str, Any]]] = {}
    for row in done:
        if row["threads"] != fewest[row.get("baseline_id")]:
            continue
        own = columns.setdefault(row["configuration_id"], {})
        own[LATENCY[row["measure"]]] = row["ratio_median"]
        if row["measure"] == "rtfx":
            own |= {column: row[f"quantized_{statistic}"] for column, statistic in SPEED.items()}
            baselines.setdefault(row.get("baseline_id", ""), []).append(row)
    for baseline, rows in baselines.items():
        values = {column: [row[f"baseline_{statistic}"] for row in rows] for column, statistic in SPEED.items()}
        columns[baseline] = {column: median(own) for column, own in values.items()}
    return columns


def _reference_wer(percentages: dict[str, float], split: str) -> float | None:
    return percentages[split] / 100 if split in percentages else None


def _with_statistics(rows: list[dict[str, Any]], samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """The rows with intervals and with the difference from the full-precision baseline, empty where there is none."""
    from harness.stats import Study, system

    study = Study(rows, samples.__getitem__)
    scored = {row["cell_id"] for row in study.scored}
    scored |= {row["cell_id"] for row in study.stopped}
    return [
        row
        | _interval(system(samples[row["cell_id"]]) if row["cell_id"] in scored else None)
        | _difference(study.against_baselines.get(row["cell_id"]))
        | _hallucinated(samples[row["cell_id"]], study.baseline_of(row), samples)
        for row in rows
    ]


def _hallucinated(own: Sample, baseline: Mapping[str, Any] | None, samples: Mapping[str, Sample]) -> dict[str, Any]:
    """Empty where something was said in every recording."""
    from harness.stats import hallucinated, more_hallucinated

    alone = hallucinated(own)
    more = None if baseline is None else more_hallucinated(own, samples[baseline["cell_id"]])
    first = (None, None) if alone is None else (alone.per_minute, alone.share)
    others = (None,) * 4 if more is None else (more.per_minute, more.low, more.high, more.p)
    return dict(zip(HALLUCINATED, map(_number, (*first, *others)), strict=True))


def _interval(system: System | None) -> dict[str, Any]:
    low, high = (None, None) if system is None else (system.low, system.high)
    return {"wer_low": _number(low), "wer_high": _number(high)}


def _difference(against: AgainstBaseline | None) -> dict[str, Any]:
    if against is None:
        return dict.fromkeys(DIFFERENCE)
    comparison, difference = against.comparison, against.comparison.difference
    values = (
        against.baseline,
        comparison.identical,
        *astuple(comparison.changes),
        difference.wer,
        _number(difference.low),
        _number(difference.high),
        _number(difference.p_permutation),
        _number(against.p_holm),
        _number(difference.relative),
        _number(difference.relative_low),
        _number(difference.relative_high),
        difference.non_inferior,
        _number(difference.detectable),
        comparison.mapsswe.segments,
        comparison.mapsswe.z,
        comparison.mapsswe.p,
        comparison.blocked_by,
        comparison.blocks,
    )
    return dict(zip(DIFFERENCE, values, strict=True))


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
