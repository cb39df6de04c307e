"""How far every layer's weights moved, and what each does to the answers alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.records.reading import RecordedRun
from harness.report.charts._labels import PARTS, names, part_of, variants
from harness.report.charts._style import SMALL, Row, stacked, styled
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 22
"""Configurations that a panel has room for."""
_ROWS = 60
"""Layers whose names a panel has room for; of more, only the blocks are named."""
_LINE = 0.1
"""Inches a row."""
_WORDS = {"layers": "", "self_attn": "self", "encoder_attn": "cross", "embed_tokens": "tokens", "mlp": ""}
Errors = Mapping[str, float]


@styled
def layer_error(study: Study, run: RecordedRun) -> Figure | None:
    """Relative weight error of every layer in every configuration; layers left in float are blank.

    Read from the first split: quantization is the same on all. `None` where nothing was quantized.
    """
    return _heat_maps(_panels(study, run), names(study.rows), "relative weight error (blank: left in float)")


@styled
def layer_sensitivity(study: Study, run: RecordedRun) -> Figure | None:
    """Divergence of full precision's answers with one layer quantized, for every configuration that was analysed.

    In nats a token (see `harness.analysis`). `None` where `harness.analyze` was not run.
    """
    own = {row["configuration_id"]: row for row in reversed(study.rows)}
    models = variants(own.values())
    by_model: dict[str, dict[str, Errors]] = {}
    for document in run.analyses():
        row = own.get(document["configuration_id"])
        if row is not None:
            found = {layer["name"]: layer["divergence"] for layer in document["layers"]}
            by_model.setdefault(models[row["cell_id"]], {})[row["configuration_id"]] = found
    panels = [(title, part) for title, columns in by_model.items() for part in _parted(columns)]
    return _heat_maps(panels, names(study.rows), "divergence with one layer quantized, nats a token")


def _heat_maps(panels: Sequence[tuple[str, dict[str, Errors]]], labels: Mapping[str, str], what: str) -> Figure | None:
    """A panel for every title, on one scale; `None` where there is no value above 0."""
    from matplotlib.ticker import NullFormatter

    values = [value for _, columns in panels for own in columns.values() for value in own.values() if value > 0]
    if not values:
        return None
    heights = [_height(columns.values()) for _, columns in panels]
    longest = max(len(labels[key]) for _, columns in panels for key in columns)
    figure, drawn = stacked([height + 0.06 * longest for height in heights], extra=0.5)
    for axes, (title, columns) in zip(drawn, panels, strict=True):
        image = _draw(axes, {labels[key]: own for key, own in columns.items()}, _decades(values))
        if title:
            axes.set_title(title)
    bar = figure.colorbar(image, ax=drawn, location="top", aspect=40)
    bar.set_label(what)
    bar.minorformatter = NullFormatter()
    return figure


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten that hold all values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _panels(study: Study, run: RecordedRun) -> list[tuple[str, dict[str, Errors]]]:
    """Title of every panel, with the errors by layer of each of its configurations: one model, at most `_COLUMNS`."""
    first = [row for row in study.rows if row["split"] == study.rows[0]["split"]]
    models = variants(first)
    by_model: dict[str, dict[str, Errors]] = {}
    for row in first:
        errors = _errors(run.layers(row["cell_id"]))
        if errors:
            by_model.setdefault(models[row["cell_id"]], {})[row["configuration_id"]] = errors
    return [(title, part) for title, columns in by_model.items() for part in _parted(columns)]


def _parted(columns: Mapping[str, Errors]) -> Iterator[dict[str, Errors]]:
    keys = list(columns)
    for start in range(0, len(keys), _COLUMNS):
        yield {key: columns[key] for key in keys[start : start + _COLUMNS]}


def _errors(layers: Sequence[Row]) -> dict[str, float]:
    return {layer["name"]: layer["weight_error"] for layer in layers if layer["effective"] is not None}


def _ordered(columns: Iterable[Errors]) -> list[str]:
    """All layers, encoder first, in the model's order."""
    found = list(dict.fromkeys(name for own in columns for name in own))
    return sorted(found, key=lambda name: (*PARTS, "").index(part_of(name)))


def short_name(name: str) -> str:
    """A layer's name without what its part and its place say.

    >>> short_name("model.decoder.layers.0.encoder_attn.k_proj")
    '0 cross k'
    """
    words = name.split(".")
    own = words[words.index(part_of(name)) + 1 :] if part_of(name) else words[-2:]
    return " ".join(w for w in (_WORDS.get(word, word.removesuffix("_proj")) for word in own) if w)


def _height(columns: Iterable[Errors]) -> float:
    return min(len(_ordered(columns)), _ROWS) * _LINE


def _draw(axes: Axes, columns: Mapping[str, Errors], scale: tuple[float, float]) -> Any:
    """One heat map; returns the image, for the colour bar."""
    import numpy as np
    from matplotlib.colors import LogNorm

    layers = _ordered(columns.values())
    table = np.array([[own.get(layer, np.nan) for own in columns.values()] for layer in layers])
    shown = np.maximum(table, scale[0])
    image = axes.imshow(shown, aspect="auto", interpolation="nearest", cmap="viridis", norm=LogNorm(*scale))
    axes.set_xticks(range(len(columns)), list(columns), rotation=90)
    axes.set_yticks(*_row_names(layers))
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.vlines([i - 0.5 for i in range(1, len(columns))], -0.5, len(layers) - 0.5, color="white", linewidth=0.5)
    _part_names(axes, layers)
    return image


def _row_names(layers: Sequence[str]) -> tuple[list[float], list[str]]:
    """Where the names of rows stand and what they are: of all layers, or of blocks where there are many."""
    if len(layers) <= _ROWS:
        return list(map(float, range(len(layers)))), [short_name(layer) for layer in layers]
    places: dict[tuple[str, str], list[int]] = {}
    for i, layer in enumerate(layers):
        places.setdefault((part_of(layer), short_name(layer).split()[0]), []).append(i)
    return [sum(rows) / len(rows) for rows in places.values()], [block for _, block in places]


def _part_names(axes: Axes, layers: Sequence[str]) -> None:
    """Encoder and decoder, written beside their rows and parted by a line."""
    end = 0
    for part, own in itertools.groupby(layers, part_of):
        start, end = end, end + len(list(own))
        style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": SMALL}
        axes.text(1.02, (start + end - 1) / 2, part, ha="left", va="center", **style)
        axes.axhline(start - 0.5, color="white", linewidth=2 if start else 0)
