"""What fewer bits cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.charts._labels import code, variants
from harness.report.charts._style import (
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

_NARROWEST = 0.13
"""Every format gets at least this share of the number of rows, so that its name fits."""
_FAR = 2.5
"""Costs of less than so many times the highest usual one need no logarithm."""
_MANY = 8
"""More formats than this have their names written upwards."""


@styled
def degradation_by_bits(study: Study) -> Figure | None:
    """Cost in points of WER by number format, few bits first, one panel a split; `None` where nothing has a baseline.

    Rows of one format stand beside each other, by library. Where there are catastrophes, the axis is
    logarithmic beyond the costs of all other rows.
    """
    rows = [row for row in study.scored if row["difference"] is not None]
    if not rows:
        return None
    splits, models = by_split(rows), variants(rows)
    kinds = list(dict.fromkeys(models.values()))
    figure, panels = stacked([2.0] * len(splits), legend(rows, kinds), extra=0.4)
    for axes, (split, own) in zip(panels, splits.items(), strict=True):
        everything = [row for row in study.scored if row["split"] == split]
        _panel(axes, own, {row["cell_id"]: kinds.index(models[row["cell_id"]]) for row in own})
        _cost_axis(axes, own, ceiling(everything))
        axes.set_title(split)
    panels[-1].set_xlabel("number format of the weights\n(within a format: by library, then by size)")
    figure.align_ylabels()
    return figure


def _panel(axes: Axes, rows: Sequence[Row], model: dict[str, int]) -> None:
    styles, formats = libraries(rows), _formats(rows)
    order = list(styles)
    edge, centres = 0.0, []
    for own in formats.values():
        width = max(len(own), _NARROWEST * len(rows))
        ordered = sorted(own, key=lambda row: (order.index(row["backend"]), model[row["cell_id"]], row["size_bytes"]))
        for i, row in enumerate(ordered):
            x = edge + width / 2 + i - (len(own) - 1) / 2
            style = styles[row["backend"]]
            cost, low, high = points(row, "difference", "difference_low", "difference_high")
            axes.vlines(x, low, high, color=style.colour, linewidth=0.9)
            axes.plot(
                x, cost, linestyle="", marker=style.marker, zorder=3, **filling(model[row["cell_id"]], style.colour)
            )
        centres.append(edge + width / 2)
        edge += width
        axes.axvline(edge, color="#e2e2e2", linewidth=0.5)
    axes.set_xlim(0, edge)
    axes.tick_params(axis="x", length=0, rotation=90 if len(formats) > _MANY else 0)
    axes.set_xticks(centres, [name.replace("_", "\n") for name in formats])
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    axes.grid(axis="y")


def _formats(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by number format, few bits first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["bits"] is None, row["bits"], row["format"] != "int", code(row))):
        found.setdefault(code(row), []).append(row)
    return found


def _cost_axis(axes: Axes, rows: Sequence[Row], limit: float) -> None:
    """Linear; logarithmic beyond the highest cost that is no catastrophe, if there are any of these."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter

    bounds: list[Any] = [finite(points(row, "difference", "difference_low", "difference_high")) for row in rows]
    usual = [value for row, own in zip(rows, bounds, strict=True) if row["wer"] <= limit for value in own]
    cost = f"cost (points of {unit_of(rows).full_rate}"
    axes.set_ylabel(f"{cost})")
    low, high = min(usual, default=0.0), max(usual, default=1.0)
    worst = max(value for own in bounds for value in own)
    ticks = MaxNLocator(5, steps=(1, 2, 5, 10)).tick_values(min(low, 0), max(high, 0.5))
    threshold = float(ticks[-1])
    if worst < _FAR * threshold:
        return
    beyond = [base * 10.0**power for power in range(-1, 5) for base in (1, 3)]
    axes.set_yscale("symlog", linthresh=threshold, linscale=2.5)
    axes.set_ylim(min(ticks[0], -threshold / 10), worst * 1.2)
    axes.yaxis.set_major_locator(FixedLocator([*ticks, *(v for v in beyond if _FAR * threshold < v <= worst * 1.2)]))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.axhline(threshold, color="black", linewidth=0.5, linestyle=(0, (1, 3)))
    axes.set_ylabel(f"{cost};\nlogarithmic above {threshold:g})")
