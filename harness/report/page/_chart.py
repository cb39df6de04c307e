"""What the chart of size or speed, and WER draws: cells, baselines with their band, frontiers, and the filters."""

from __future__ import annotations

from typing import Any

from harness.records.reading import published_points
from harness.report.frontier import frontier
from harness.report.numbers import beside_baseline
from harness.report.page._run import PageRun, Row
from harness.report.page._table import ResultsTable, filter_levels
from harness.report.units import unit_of
from harness.stats import MARGIN

_LIBRARIES = {
    "none": ("full precision", 0, "star"),
    "cast": ("16-bit cast", 1, "plus"),
    "torch_dynamic": ("PyTorch dynamic", 2, "circle"),
    "torch_static": ("PyTorch static", 3, "square"),
    "quanto": ("Optimum-Quanto", 4, "triangle"),
    "hqq": ("HQQ", 5, "diamond"),
    "bitsandbytes": ("bitsandbytes", 6, "wedge"),
}
"""How a library is called, which colour of the style sheet it has, and its shape."""
_OTHER_COLOUR, _OTHER_SHAPES = 7, ("cross", "pentagon", "hexagon", "bar")
_AXES = {
    "size": {"label": "size, MB", "quantity": "size", "larger_is_better": False},
    "speed": {"label": "seconds of audio per second", "quantity": "speed", "larger_is_better": True},
}
"""What word errors can be drawn against."""
_SCHEMES = {"none": "not quantized", "weight_only": "weights only", "dynamic": "dynamic", "static": "static"}


def chart(run: PageRun, table: ResultsTable) -> dict[str, Any]:
    """JSON values; rates in per cent, sizes in MB."""
    shown = [row for row in run.study.scored if row["size_bytes"] is not None]
    splits = [split for split in run.splits if any(row["split"] == split for row in shown)]
    return {
        "axes": {name: axis for name, axis in _AXES.items() if name == "size" or any(map(_speed, shown))},
        "libraries": _libraries(run),
        "filters": _filters(run),
        "margin": MARGIN,
        "models": run.levels("model"),
        "panels": [_panel(run, table, split, [row for row in shown if row["split"] == split]) for split in splits],
    }


def _speed(row: Row) -> float | None:
    """Seconds of audio per second, one utterance at a time; `None` where it was not timed."""
    return row.get("timed_rtfx")


def _libraries(run: PageRun) -> dict[str, dict[str, Any]]:
    names = sorted(run.levels("backend"), key=lambda name: _LIBRARIES.get(name, ("", _OTHER_COLOUR))[1])
    unknown = [name for name in names if name not in _LIBRARIES]
    styles = {name: (name, _OTHER_COLOUR, _OTHER_SHAPES[i % len(_OTHER_SHAPES)]) for i, name in enumerate(unknown)}
    return {name: dict(zip(("label", "colour", "shape"), (_LIBRARIES | styles)[name], strict=True)) for name in names}


def _filters(run: PageRun) -> list[dict[str, Any]]:
    """The filters that have a choice, with the levels of each in order."""
    found: dict[str, set[str]] = {}
    for row in run.rows:
        for name, level in filter_levels(row).items():
            found.setdefault(name, set()).add(level)
    named = {"library": {name: style["label"] for name, style in _libraries(run).items()}, "scheme": _SCHEMES}
    return [
        {"name": name, "levels": _levels(levels, named.get(name, {}))}
        for name, levels in found.items()
        if len(levels) > 1
    ]


def _levels(levels: set[str], labels: dict[str, str]) -> list[dict[str, str]]:
    """Levels in the order of their labels; those without one by number or name."""
    places = {level: place for place, level in enumerate(labels)}
    ordered = sorted(levels, key=lambda level: (places.get(level, len(places)), level.zfill(3)))
    return [{"value": level, "label": labels.get(level, level)} for level in ordered]


def _panel(run: PageRun, table: ResultsTable, split: str, rows: list[Row]) -> dict[str, Any]:
    baselines = [row for row in rows if row["backend"] == "none"]
    return {
        "split": split,
        "rate": unit_of(rows).rate,
        "baselines": [{"label": run.label(row), "wer": row["wer"] * 100} for row in baselines],
        "frontiers": {
            "size": [row["cell_id"] for row in frontier(rows)],
            "speed": [row["cell_id"] for row in frontier(filter(_speed, rows), lambda row: -row["timed_rtfx"])],
        },
        "published": [
            {"label": f"{point['label']} ({point['source']})", "size": point["size_mb"], "wer": point["wer"][split]}
            for point in published_points(run.stored)
            if split in point["wer"]
        ],
        "cells": [_cell(run, table, row) for row in rows],
    }


def _cell(run: PageRun, table: ResultsTable, row: Row) -> dict[str, Any]:
    bounds = beside_baseline(row)
    return {
        "id": row["cell_id"],
        "configuration": row["configuration_id"],
        "split": row["split"],
        "label": run.label(row),
        **filter_levels(row),
        "size": row["size_bytes"] / 1e6,
        "speed": _speed(row),
        "wer": row["wer"] * 100,
        "low": None if bounds is None else bounds[0] * 100,
        "high": None if bounds is None else bounds[1] * 100,
        "details": [pair for pair in table.details(row["cell_id"]) if pair[0] != "test set"],
    }
