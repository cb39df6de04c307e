"""Figure: similarity of every block's output to full precision."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records.reading import RecordedRun
from harness.report.charts._labels import names, part_of
from harness.report.charts._style import GREY, Row, stacked, styled
from harness.stats import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 1.7
"""Inches."""
_MOST = 8
"""Configurations that one figure tells apart: of more, those that end furthest from full precision."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DASHES = ("-", "--", "-.", ":")


@styled
def block_similarity(study: Study, run: RecordedRun) -> Figure | None:
    """Cosine between the outputs of every block in full precision and in the whole quantized model.

    A panel for each model; `None` where `harness.analyze` was not run.
    """
    from matplotlib.lines import Line2D

    labels = names(study.rows)
    known = [d for d in run.analyses() if d["configuration_id"] in labels and d["blocks"]]
    shown = sorted(known, key=lambda d: d["blocks"][-1]["cosine"])[:_MOST]
    if not shown:
        return None
    styles = {
        document["configuration_id"]: (_COLOURS[i], _DASHES[i % len(_DASHES)]) for i, document in enumerate(shown)
    }
    by_model: dict[str, list[Row]] = {}
    for document in shown:
        by_model.setdefault(document["model"], []).append(document)
    handles = [
        Line2D([], [], color=colour, linestyle=dash, label=labels[key]) for key, (colour, dash) in styles.items()
    ]
    figure, panels = stacked([_HEIGHT] * len(by_model), handles)
    for axes, (model, documents) in zip(panels, by_model.items(), strict=True):
        for own in documents:
            _draw(axes, own["blocks"], *styles[own["configuration_id"]])
        _label(axes, [block["name"] for block in documents[0]["blocks"]])
        if len(by_model) > 1:
            axes.set_title(model)
    return figure


def _draw(axes: Axes, blocks: Sequence[Row], colour: str, dash: str) -> None:
    """A line for each part: the decoder's first block does not go on from the encoder's last."""
    places = itertools.count()
    for _, own in itertools.groupby(blocks, lambda block: part_of(block["name"])):
        points = [(next(places), block["cosine"]) for block in own]
        axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, marker=".", markersize=3)


def _label(axes: Axes, blocks: Sequence[str]) -> None:
    """Numbers under the blocks, and a line where the decoder begins."""
    axes.set_ylabel("cosine with full precision")
    axes.set_ylim(top=1.005)
    step = -(-len(blocks) // 24)
    axes.set_xticks(range(0, len(blocks), step), [name.rpartition(".")[2] for name in blocks[::step]])
    axes.grid(axis="y")
    start = 0
    for part, own in itertools.groupby(blocks, part_of):
        end = start + len(list(own))
        axes.text((start + end - 1) / 2, -0.2, part, ha="center", va="top", transform=axes.get_xaxis_transform())
        if start:
            axes.axvline(start - 0.5, color=GREY, linewidth=0.5)
        start = end
