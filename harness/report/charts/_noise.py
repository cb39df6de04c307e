"""What quantization costs in noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.charts._labels import names
from harness.report.charts._style import Row, finite, points, stacked, styled
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "osD^vPX*"
_CLEAN = "no noise"


@styled
def loss_by_noise(study: Study) -> Figure | None:
    """Cost in points of WER by signal-to-noise ratio, a line for each configuration; `None` where there is no noise.

    One panel for each test set and kind of noise, with the speech without noise at its left. Bars are intervals.
    """
    from matplotlib.lines import Line2D

    rows = [row for row in study.scored if row["difference"] is not None]
    panels = _panels(rows)
    if not panels:
        return None
    labels = names(row for own in panels.values() for row in own)
    marks = {key: (_MARKS[i % len(_MARKS)], f"C{i % 10}") for i, key in enumerate(labels)}
    handles = [Line2D([], [], marker=marks[key][0], color=marks[key][1], label=label) for key, label in labels.items()]
    figure, axes = stacked([2.0] * len(panels), handles, extra=0.2)
    for panel, (title, own) in zip(axes, panels.items(), strict=True):
        _draw(panel, own, marks)
        panel.set_title(title)
        panel.set_ylabel("cost (points of word error rate)")
    axes[-1].set_xlabel("signal-to-noise ratio, dB")
    figure.align_ylabels()
    return figure


def _panels(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by test set and kind of noise, each with the rows of the same speech that differ in having none."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("noise_db") is not None:
            found.setdefault(_without_ratio(row), []).append(row)
    for title, own in found.items():
        quiet = {_without_noise(row) for row in own}
        found[title] = [row for row in rows if row.get("noise_db") is None and row["split"] in quiet] + own
    return found


def _parts(row: Row) -> tuple[list[str], str]:
    """The parts of a test set's name, and the one that is its noise."""
    parts = row["split"].split(" + ")
    return parts, next(part for part in parts if part.endswith(f" {row['noise_db']:g} dB") and "gain" not in part)


def _without_ratio(row: Row) -> str:
    parts, noise = _parts(row)
    return " + ".join(noise.removesuffix(f" {row['noise_db']:g} dB") if part == noise else part for part in parts)


def _without_noise(row: Row) -> str:
    parts, noise = _parts(row)
    return " + ".join(part for part in parts if part != noise)


def _draw(axes: Axes, rows: Sequence[Row], marks: dict[str, tuple[str, str]]) -> None:
    """Ratios fall from left to right, at equal distances."""
    ratios = sorted({row["noise_db"] for row in rows if row.get("noise_db") is not None}, reverse=True)
    quiet = any(row.get("noise_db") is None for row in rows)
    places = {ratio: x for x, ratio in enumerate([*([None] if quiet else []), *ratios])}
    own: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: places[row.get("noise_db")]):
        own.setdefault(row["configuration_id"], []).append(row)
    for i, (key, line) in enumerate(own.items()):
        mark, colour = marks[key]
        beside = 0.3 * (i / max(1, len(own) - 1) - 0.5) if len(own) > 1 else 0.0
        xs = [places[row.get("noise_db")] + beside for row in line]
        costs = [points(row, "difference", "difference_low", "difference_high") for row in line]
        axes.plot(xs, [cost for cost, _, _ in costs], marker=mark, color=colour, linewidth=0.8, markersize=3)
        for x, (_, low, high) in zip(xs, costs, strict=True):
            if finite((low, high)):
                axes.vlines(x, low, high, color=colour, linewidth=0.7)
    axes.set_xticks(list(places.values()), [_CLEAN if ratio is None else f"{ratio:g}" for ratio in places])
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    axes.grid(axis="y")
