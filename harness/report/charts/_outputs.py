"""Which outputs one scale cannot hold: how wide each layer's is, beside what the layer costs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records.reading import RecordedRun
from harness.report.charts._labels import Label, names, write
from harness.report.charts._layers import short_name
from harness.report.charts._style import Row, stacked, styled
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 2.0
"""Inches."""
_MOST = 4
"""Configurations that one figure shows: of more, those that lose most."""
_NAMED = 3
"""Layers that are named: those that do most damage."""


@styled
def output_range(study: Study, run: RecordedRun) -> Figure | None:
    """Range of every layer's output in standard deviations against the divergence with this layer alone quantized.

    A panel for each analysed configuration that rounds outputs; `None` where there is none.
    """
    labels = names(study.rows)
    known = [d for d in run.analyses() if d.get("output_bits") and d["configuration_id"] in labels and _points(d)]
    shown = sorted(known, key=lambda d: -max(layer["divergence"] for layer in d["layers"]))[:_MOST]
    if not shown:
        return None
    figure, panels = stacked([_HEIGHT] * len(shown))
    for axes, document in zip(panels, shown, strict=True):
        _draw(axes, _points(document))
        axes.set_title(labels[document["configuration_id"]])
    for axes, document in zip(panels, shown, strict=True):
        points = _points(document)
        worst = sorted(points, key=lambda layer: -layer["divergence"])[:_NAMED]
        own = [Label(short_name(layer["name"]), *_place(layer), needed=layer is worst[0]) for layer in worst]
        write(axes, own, [_place(layer) for layer in points])
    return figure


def _points(document: Row) -> list[Row]:
    """The layers that have a place on two logarithmic axes."""
    return [own for own in document["layers"] if own.get("output_range_ratio") and own["divergence"] > 0]


def _place(layer: Row) -> tuple[float, float]:
    return layer["output_range_ratio"], layer["divergence"]


def _draw(axes: Axes, points: Sequence[Row]) -> None:
    ranges, harm = zip(*map(_place, points), strict=True)
    axes.scatter(ranges, harm, s=8, color="#0072B2")
    axes.set(xscale="log", yscale="log")
    axes.margins(0.12)
    axes.grid()
    axes.set_xlabel("range of the output, standard deviations")
    axes.set_ylabel("divergence alone, nats a token")
