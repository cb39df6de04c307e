"""Size against word error rate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.charts._labels import Label, short, variants, write
from harness.report.charts._style import (
    GREY,
    MANY,
    Row,
    baseline,
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
from harness.report.frontier import frontier
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STEPS = 12
_WIDE = 4.0
"""Sizes that span more than this ratio are drawn on a logarithmic axis."""


@styled
def size_vs_wer(study: Study, published: Sequence[Row] = ()) -> Figure | None:
    """Size against word error rate with intervals and frontier, one panel a split; `None` where nothing is done.

    Full precision is a line as well as a mark; catastrophes stand at the upper edge with their value.

    Args:
        study: of the run.
        published: the experiment's `[[point]]` tables, drawn as crosses with their labels.
    """
    from matplotlib.lines import Line2D

    rows = study.scored
    if not rows:
        return None
    splits, models = by_split(rows), variants([*rows, *study.stopped])
    kinds = list(dict.fromkeys(models.values()))
    lines = [
        Line2D([], [], color=GREY, linewidth=0.8, label="Pareto frontier"),
        Line2D([], [], linestyle="", color=GREY, marker="|", markersize=7, label="95 % interval"),
    ]
    if study.stopped:
        lines.append(Line2D([], [], linestyle="", color=GREY, marker="o", fillstyle="none", label="stopped early"))
    if published:
        lines.append(Line2D([], [], linestyle="", color=GREY, marker="x", markersize=4, label="published elsewhere"))
    figure, panels = stacked([2.3] * len(splits), legend([*rows, *study.stopped], kinds, lines))
    for axes, (split, own) in zip(panels, splits.items(), strict=True):
        if axes is not panels[0]:
            axes.sharex(panels[0])
        _panel(axes, own, {row["cell_id"]: kinds.index(models[row["cell_id"]]) for row in own})
        _draw_stopped(axes, [row for row in study.stopped if row["split"] == split], [*rows, *study.stopped], own)
        for point in _of_split(published, split):
            axes.plot(point.x, point.y, linestyle="", color=GREY, marker="x", markersize=4, zorder=4)
        axes.set(title=split, ylabel="word error rate (%)")
    sizes = [row["size_bytes"] for row in [*rows, *study.stopped]]
    _size_axis(panels[0], [*sizes, *(1e6 * point["size_mb"] for point in published)])
    panels[-1].set_xlabel("size of the model (MB)")
    figure.align_ylabels()
    for axes, (split, own) in zip(panels, splits.items(), strict=True):
        _name(axes, own, _of_split(published, split))
    return figure


def _of_split(published: Sequence[Row], split: str) -> list[Label]:
    return [Label(one["label"], one["size_mb"], one["wer"][split]) for one in published if split in one["wer"]]


def _panel(axes: Axes, rows: Sequence[Row], model: dict[str, int]) -> None:
    styles, top = libraries(rows), _top(rows)
    for row in rows:
        style, size = styles[row["backend"]], row["size_bytes"] / 1e6
        wer, low, high = points(row, "wer", "wer_low", "wer_high")
        if wer <= top:
            axes.vlines(size, low, high, color=style.colour, linewidth=0.7, alpha=0.5)
        fill = filling(model[row["cell_id"]], style.colour)
        axes.plot(size, min(wer, top), linestyle="", marker=style.marker, zorder=3, clip_on=False, **fill)
        if row["backend"] == "none":
            axes.axhline(wer, color="black", linewidth=0.8, linestyle=":", zorder=1)
    _draw_frontier(axes, rows, top)
    axes.set_ylim(0, top)
    axes.grid(axis="y")


def _draw_stopped(axes: Axes, stopped: Sequence[Row], every: Sequence[Row], rows: Sequence[Row]) -> None:
    """Open marks, at what was seen until then."""
    styles, top = libraries(every), _top(rows)
    for row in stopped:
        style = styles[row["backend"]]
        wer = min(100 * row["wer"], top)
        axes.plot(
            row["size_bytes"] / 1e6,
            wer,
            linestyle="",
            marker=style.marker,
            color=style.colour,
            fillstyle="none",
            zorder=3,
            clip_on=False,
        )


def _top(rows: Sequence[Row]) -> float:
    """The upper edge: what all but the catastrophes need, with their intervals as far as these stay near."""
    limit = ceiling(rows)
    usual = [row for row in rows if row["wer"] <= limit] or rows[:1]
    highest = max(finite(value for row in usual for value in points(row, "wer", "wer_high")))
    return 1.06 * max(min(highest, 100 * limit * 1.5), 100 * baseline(rows), 1.0)


def _draw_frontier(axes: Axes, rows: Sequence[Row], top: float) -> None:
    axes.plot(*zip(*_along(rows, top), strict=True), color=GREY, linewidth=0.8, zorder=2)


def _along(rows: Sequence[Row], top: float) -> list[tuple[float, float]]:
    """Points close together on the frontier, straight from mark to mark."""
    best = [(row["size_bytes"] / 1e6, min(row["wer"] * 100, top)) for row in frontier(rows)]
    found = best[:1]
    for (size, rate), (next_size, next_rate) in itertools.pairwise(best):
        steps = [step / _STEPS for step in range(1, _STEPS + 1)]
        found += [(size + (next_size - size) * step, rate + (next_rate - rate) * step) for step in steps]
    return found


def _size_axis(axes: Axes, sizes: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if max(sizes) > _WIDE * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _beyond(rows: Sequence[Row], top: float) -> list[Label]:
    """What catastrophes are labelled with: each its rate; of many, how many and the range."""
    if len(rows) <= MANY:
        return [Label(f"{row['wer'] * 100:.0f} % ↑", row["size_bytes"] / 1e6, top, needed=True) for row in rows]
    rates = [row["wer"] * 100 for row in rows]
    text = f"{len(rows)} at {min(rates):.0f} to {max(rates):.0f} % ↑"
    return [Label(text, max(row["size_bytes"] for row in rows) / 1e6, top, needed=True)]


def _name(axes: Axes, rows: Sequence[Row], published: Sequence[Label]) -> None:
    """Values of catastrophes, and names of frontier and published points where there is room."""
    top = _top(rows)
    marks = [(row["size_bytes"] / 1e6, min(row["wer"] * 100, top)) for row in rows]
    labels = _beyond([row for row in rows if row["wer"] * 100 > top], top)
    best = {short(row): row for row in frontier(rows) if row["backend"] != "none" and row["wer"] * 100 <= top}
    labels += [Label(name, row["size_bytes"] / 1e6, row["wer"] * 100) for name, row in best.items()]
    marks += [(point.x, point.y) for point in published]
    write(axes, [*labels, *published], [*marks, *_along(rows, top)])
