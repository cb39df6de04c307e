"""Figure: what a configuration costs on one split against another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.charts._labels import Label, names, variants, write
from harness.report.charts._style import (
    GREY,
    MANY,
    Row,
    by_split,
    ceiling,
    filling,
    finite,
    legend,
    libraries,
    points,
    stacked,
    styled,
)
from harness.report.units import unit_of
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pair = tuple[Row, Row]
_COLUMNS = ("difference", "difference_low", "difference_high")


@styled
def clean_vs_other(study: Study) -> Figure | None:
    """Cost on the first split against cost on each of the others, with both intervals; `None` for a single split.

    Named are the configurations whose costs on the two splits differ; catastrophes stand at the edge,
    with their values.
    """
    from matplotlib.lines import Line2D

    rows = [row for row in study.scored if row["difference"] is not None]
    splits = by_split(rows)
    first, *others = splits or [""]
    pairs = {other: _pairs(splits[first], splits[other]) for other in others}
    pairs = {other: own for other, own in pairs.items() if own}
    if not pairs:
        return None
    models = variants(rows)
    kinds = list(dict.fromkeys(models.values()))
    labels, limits = names(rows), {split: ceiling([r for r in study.scored if r["split"] == split]) for split in splits}
    line = Line2D([], [], color=GREY, linewidth=0.8, label="equal costs")
    figure, panels = stacked([3.2] * len(pairs), legend(rows, kinds, [line]))
    edges = [_edges(own, limits[first], limits[other]) for other, own in pairs.items()]
    for axes, (other, own), edge in zip(panels, pairs.items(), edges, strict=True):
        _panel(axes, own, edge, [kinds.index(models[a["cell_id"]]) for a, _ in own])
        rates = [unit_of(side).full_rate for side in zip(*own, strict=True)]
        axes.set(xlabel=f"cost on {first} (points of {rates[0]})", xlim=edge, ylim=edge, aspect="equal")
        axes.set_ylabel(f"cost on {other} (points of {rates[1]})")
    for axes, own, edge in zip(panels, pairs.values(), edges, strict=True):
        _name(axes, own, edge, labels)
    return figure


def _pairs(rows: Sequence[Row], others: Sequence[Row]) -> list[Pair]:
    """The two rows of every configuration that has both."""
    by_id = {row["configuration_id"]: row for row in others}
    return [(row, by_id[row["configuration_id"]]) for row in rows if row["configuration_id"] in by_id]


def _edges(pairs: Sequence[Pair], *limits: float) -> tuple[float, float]:
    """Lowest and highest value drawn: of all that is no catastrophe on either split, with intervals."""
    usual = [pair for pair in pairs if all(row["wer"] <= limit for row, limit in zip(pair, limits, strict=True))]
    values = finite(value for pair in usual for row in pair for value in points(row, *_COLUMNS))
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = max(0.05 * (high - low), 0.1)
    return low - margin, high + margin


def _panel(axes: Axes, pairs: Sequence[Pair], edges: tuple[float, float], model: Sequence[int]) -> None:
    styles = libraries(row for pair in pairs for row in pair)
    axes.axline((0, 0), slope=1, color=GREY, linewidth=0.8, zorder=1)
    for level in (axes.axhline, axes.axvline):
        level(0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    for (a, b), index in reversed(list(zip(pairs, model, strict=True))):
        style = styles[a["backend"]]
        (x, left, right), (y, low, high) = points(a, *_COLUMNS), points(b, *_COLUMNS)
        axes.hlines(y, left, right, color=style.colour, linewidth=0.7, alpha=0.5)
        axes.vlines(x, low, high, color=style.colour, linewidth=0.7, alpha=0.5)
        place = min(x, edges[1]), min(y, edges[1])
        axes.plot(*place, linestyle="", marker=style.marker, zorder=3, clip_on=False, **filling(index, style.colour))


def _name(axes: Axes, pairs: Sequence[Pair], edges: tuple[float, float], labels: dict[str, str]) -> None:
    """Write the names of what differs and, in one label a place, of what stands at the edge."""
    at_edge: dict[tuple[float, float], list[Pair]] = {}
    found, marks = [], []
    for a, b in pairs:
        (x,), (y,) = points(a, "difference"), points(b, "difference")
        place = min(x, edges[1]), min(y, edges[1])
        marks.append(place)
        if max(x, y) > edges[1]:
            at_edge.setdefault(place, []).append((a, b))
        elif _differ(a, b):
            found.append(Label(labels[a["configuration_id"]], *place))
    found += [Label(_beyond(own, labels), *place, needed=True) for place, own in at_edge.items()]
    write(axes, found, marks)


def _beyond(pairs: Sequence[Pair], labels: dict[str, str]) -> str:
    """Names and costs of what is drawn in one place at the edge; of many, how many and the range."""
    costs = [(points(a, "difference")[0], points(b, "difference")[0]) for a, b in pairs]
    if len(pairs) <= MANY:
        named = zip(pairs, costs, strict=True)
        return "\n".join(f"{labels[a['configuration_id']]} ({x:+.1f}, {y:+.1f}) ↗" for (a, _), (x, y) in named)
    ranges = [f"{min(values):+.1f} to {max(values):+.1f}" for values in zip(*costs, strict=True)]
    return f"{len(pairs)} configurations ↗\n({ranges[0]}, {ranges[1]})"


def _differ(a: Row, b: Row) -> bool:
    """Whether the interval of the difference of two independent costs, found from their own, leaves out zero.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures", Statistics in Medicine 27(10).
    """
    (x, left, right), (y, low, high) = points(a, *_COLUMNS), points(b, *_COLUMNS)
    gap = abs(y - x)
    near = math.hypot(y - low, right - x) if y > x else math.hypot(high - y, x - left)
    return gap > near
