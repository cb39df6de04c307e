"""What became of every layer, by configuration; strings are kept once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.report.page._run import PageRun

_TEXTS = ("name", "kind", "requested", "effective", "reason")
_NUMBERS = ("effective_bits", "weight_error")


def layers(run: PageRun) -> dict[str, Any]:
    """JSON values: `strings`, and for every finished configuration its layers.

    A layer is a list: positions of its name, kind, requested, effective and reason in `strings`, then stored
    bits per weight and relative weight error; `None` for what is missing.
    """
    strings: dict[str, int] = {}
    found: dict[str, Any] = {}
    for row in run.study.rows:
        identifier = row["configuration_id"]
        if identifier not in found and (own := run.stored.layers(row["cell_id"])):
            found[identifier] = {"label": run.label(row), "layers": [_layer(layer, strings) for layer in own]}
    return {"strings": list(strings), "configurations": found}


def _layer(layer: Mapping[str, Any], strings: dict[str, int]) -> list[float | int | None]:
    texts = [layer.get(key) for key in _TEXTS]
    places = [None if text is None else strings.setdefault(text, len(strings)) for text in texts]
    return [*places, *(_number(layer.get(key)) for key in _NUMBERS)]


def _number(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
