"""Size, and speed, against word error rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    legend,
    libraries,
    points,
    stacked,
    styled,
)
from harness.report.frontier import frontier
from harness.report.numbers import beside_baseline
from harness.report.units import unit_of
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Axis:
    """What word errors are paid with.

    Attributes:
        label: of the axis.
        of: where a row stands on it.
        larger_is_better: what the frontier prefers.
    """

    label: str
    of: Callable[[Row], float]
    larger_is_better: bool = False

    def frontier(self, rows: Sequence[Row]) -> list[Row]:
        """The best rows, the best in this first."""
        return frontier(rows, lambda row: -self.of(row) if self.larger_is_better else self.of(row))


_SIZE = _Axis("size of the model (MB)", lambda row: row["size_bytes"] / 1e6)
_SPEED = _Axis(
    "seconds of audio per second, one utterance at a time", lambda row: row["timed_rtfx"], larger_is_better=True
)
_STEPS = 12
_WIDE = 4.0
"""Values that span more than this ratio are drawn on a logarithmic axis."""


@styled
def size_vs_wer(study: Study, published: Sequence[Row] = ()) -> Figure | None:
    """Size against word error rate with paired intervals and frontier, one panel a split; `None` where nothing is done.

    Full precision is a line as well as a mark; catastrophes stand at the upper edge with their value.

    Args:
        study: of the run.
        published: the experiment's `[[point]]` tables, drawn as crosses with their labels.
    """
    return _drawn(_SIZE, study.scored, study.stopped, published)


@styled
def speed_vs_wer(study: Study) -> Figure | None:
    """The same against speed, where `harness.latency` measured it; `None` where it measured nothing."""
    timed = [row for row in study.scored if row.get("timed_rtfx") is not None]
    return _drawn(_SPEED, timed)


def _drawn(
    axis: _Axis, rows: Sequence[Row], stopped: Sequence[Row] = (), published: Sequence[Row] = ()
) -> Figure | None:
    from matplotlib.lines import Line2D

    if not rows:
        return None
    splits, models = by_split(rows), variants([*rows, *stopped])
    kinds = list(dict.fromkeys(models.values()))
    lines = [
        Line2D([], [], color=GREY, linewidth=0.8, label="Pareto frontier"),
        Line2D([], [], linestyle="", color=GREY, marker="|", markersize=7, label="95 % interval of the difference"),
    ]
    if stopped:
        lines.append(Line2D([], [], linestyle="", color=GREY, marker="o", fillstyle="none", label="stopped early"))
    if published:
        lines.append(Line2D([], [], linestyle="", color=GREY, marker="x", markersize=4, label="published elsewhere"))
    figure, panels = stacked([2.3] * len(splits), legend([*rows, *stopped], kinds, lines))
    for axes, (split, own) in zip(panels, splits.items(), strict=True):
        if axes is not panels[0]:
            axes.sharex(panels[0])
        _panel(axes, axis, own, {row["cell_id"]: kinds.index(models[row["cell_id"]]) for row in own})
        _draw_stopped(axes, axis, [row for row in stopped if row["split"] == split], [*rows, *stopped], own)
        for point in _of_split(published, split):
            axes.plot(point.x, point.y, linestyle="", color=GREY, marker="x", markersize=4, zorder=4)
        axes.set(title=split, ylabel=f"{unit_of(own).full_rate} (%)")
    _scale(panels[0], [*map(axis.of, [*rows, *stopped]), *(point["size_mb"] for point in published)])
    panels[-1].set_xlabel(axis.label)
    figure.align_ylabels()
    for axes, (split, own) in zip(panels, splits.items(), strict=True):
        _name(axes, axis, own, _of_split(published, split))
    return figure


def _of_split(published: Sequence[Row], split: str) -> list[Label]:
    return [Label(one["label"], one["size_mb"], one["wer"][split]) for one in published if split in one["wer"]]


def _panel(axes: Axes, axis: _Axis, rows: Sequence[Row], model: dict[str, int]) -> None:
    styles, top = libraries(rows), _top(rows)
    for row in rows:
        style, place = styles[row["backend"]], axis.of(row)
        (wer,), bounds = points(row, "wer"), beside_baseline(row)
        if wer <= top and bounds is not None:
            axes.vlines(place, 100 * bounds[0], 100 * bounds[1], color=style.colour, linewidth=0.7, alpha=0.5)
        fill = filling(model[row["cell_id"]], style.colour)
        axes.plot(place, min(wer, top), linestyle="", marker=style.marker, zorder=3, clip_on=False, **fill)
        if row["backend"] == "none":
            axes.axhline(wer, color="black", linewidth=0.8, linestyle=":", zorder=1)
    axes.plot(*zip(*_along(axis, rows, top), strict=True), color=GREY, linewidth=0.8, zorder=2)
    axes.set_ylim(0, top)
    axes.grid(axis="y")


def _draw_stopped(axes: Axes, axis: _Axis, stopped: Sequence[Row], every: Sequence[Row], rows: Sequence[Row]) -> None:
    """Open marks, at what was seen until then."""
    styles, top = libraries(every), _top(rows)
    for row in stopped:
        style = styles[row["backend"]]
        wer = min(100 * row["wer"], top)
        axes.plot(
            axis.of(row),
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
    highest = max(100 * value for row in usual for value in (row["wer"], *(beside_baseline(row) or ())))
    return 1.06 * max(min(highest, 100 * limit * 1.5), 100 * baseline(rows), 1.0)


def _along(axis: _Axis, rows: Sequence[Row], top: float) -> list[tuple[float, float]]:
    """Points close together on the frontier, straight from mark to mark."""
    best = [(axis.of(row), min(row["wer"] * 100, top)) for row in axis.frontier(rows)]
    found = best[:1]
    for (place, rate), (next_place, next_rate) in itertools.pairwise(best):
        steps = [step / _STEPS for step in range(1, _STEPS + 1)]
        found += [(place + (next_place - place) * step, rate + (next_rate - rate) * step) for step in steps]
    return found


def _scale(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if max(values) > _WIDE * min(values):
        axes.set_xscale("log")
        few = max(values) < 10 * min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8) if few else (1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _beyond(axis: _Axis, rows: Sequence[Row], top: float) -> list[Label]:
    """What catastrophes are labelled with: each its rate; of many, how many and the range."""
    if len(rows) <= MANY:
        return [Label(f"{row['wer'] * 100:.0f} % ↑", axis.of(row), top, needed=True) for row in rows]
    rates = [row["wer"] * 100 for row in rows]
    text = f"{len(rows)} at {min(rates):.0f} to {max(rates):.0f} % ↑"
    return [Label(text, max(map(axis.of, rows)), top, needed=True)]


def _name(axes: Axes, axis: _Axis, rows: Sequence[Row], published: Sequence[Label]) -> None:
    """Values of catastrophes, and names of frontier and published points where there is room."""
    top = _top(rows)
    marks = [(axis.of(row), min(row["wer"] * 100, top)) for row in rows]
    labels = _beyond(axis, [row for row in rows if row["wer"] * 100 > top], top)
    best = {short(row): row for row in axis.frontier(rows) if row["backend"] != "none" and row["wer"] * 100 <= top}
    labels += [Label(name, axis.of(row), row["wer"] * 100) for name, row in best.items()]
    marks += [(point.x, point.y) for point in published]
    write(axes, [*labels, *published], [*marks, *_along(axis, rows, top)])
