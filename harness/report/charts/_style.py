"""The page and the palette of all figures, and what counts as a catastrophe."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from harness.report.complete import CATASTROPHE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Row = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 3.5
"""Inches: one column of a journal."""
SMALL = 6.5
"""Points: the smallest text."""
GREY = "#767676"
MANY = 4
"""More than so many catastrophes in one place are counted, not named one by one."""
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.0,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.5,
    "lines.markersize": 4.5,
    "lines.linewidth": 0.9,
    "svg.hashsalt": "asrquant",
}
_FILLS = ("full", "open", "left", "top", "right", "bottom")


@dataclass(frozen=True)
class Library:
    """How a library is drawn."""

    label: str
    colour: str
    marker: str


_LIBRARIES = {
    "none": Library("full precision", "#000000", "*"),
    "cast": Library("cast to 16 bits", "#999999", "P"),
    "torch_dynamic": Library("PyTorch dynamic", "#0072B2", "o"),
    "torch_static": Library("PyTorch static", "#56B4E9", "s"),
    "quanto": Library("Optimum-Quanto", "#D55E00", "^"),
    "hqq": Library("HQQ", "#009E73", "D"),
    "bitsandbytes": Library("bitsandbytes", "#CC79A7", "v"),
}
_OTHERS = ("#E69F00", "XphH<>d8")
"""Colour of libraries that are not in the table, and their shapes."""


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """`draw`, under the settings of our figures; matplotlib's own are as before afterwards."""

    @functools.wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        import matplotlib

        with matplotlib.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return within


@styled
def save(figure: Figure, path: Any) -> None:
    """Write a figure as its suffix says, 300 dots an inch; the same figure gives the same bytes."""
    figure.savefig(path, dpi=300, metadata={"Date": None} if str(path).endswith(".svg") else None)


def stacked(heights: Sequence[float], handles: Sequence[Line2D] = (), extra: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure of one column: panels above each other, and below them a legend.

    Args:
        heights: of the panels, in inches.
        handles: of the legend; its height is added.
        extra: inches for what else stands above or below.
    """
    from matplotlib.figure import Figure

    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = 3 if longest < 20 else 2 if longest < 34 else 1
    lines = math.ceil(len(handles) / columns)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.16 * lines + 0.1 + extra), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=list(heights))[:, 0]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure, list(panels)


def libraries(rows: Iterable[Row]) -> dict[str, Library]:
    """How the libraries of `rows` are drawn, in the order of a legend."""
    own = {row["backend"] for row in rows}
    colour, markers = _OTHERS
    unknown = sorted(own - _LIBRARIES.keys())
    others = {name: Library(name, colour, markers[i % len(markers)]) for i, name in enumerate(unknown)}
    return {name: style for name, style in _LIBRARIES.items() if name in own} | others


def filling(index: int, colour: str) -> dict[str, Any]:
    """Marker properties of the model with this index: filled, open, or half filled."""
    fill = _FILLS[index % len(_FILLS)]
    if fill == "open":
        return {"color": colour, "markerfacecolor": "white"}
    return {"color": colour, "markerfacecoloralt": "white", "fillstyle": fill}


def legend(rows: Sequence[Row], variants: Sequence[str], extra: Sequence[Line2D] = ()) -> list[Line2D]:
    """What shapes, colours and, of several variants, fillings mean."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle=_line(name), marker=style.marker, color=style.colour, label=style.label)
        for name, style in libraries(rows).items()
    ]
    if len(variants) > 1:
        handles += [
            Line2D([], [], linestyle="", marker="o", label=name, **filling(i, GREY)) for i, name in enumerate(variants)
        ]
    return [*handles, *extra]


def _line(backend: str) -> str:
    """Full precision is a line as well as a mark."""
    return ":" if backend == "none" else ""


def number(value: float | None) -> float:
    """NaN for a missing value."""
    return math.nan if value is None else float(value)


def points(row: Row, *keys: str) -> tuple[float, ...]:
    """Percentage points, or per cent, of columns that hold fractions; NaN where they are missing."""
    return tuple(number(row[key]) * 100 for key in keys)


def finite(values: Iterable[float]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if math.isfinite(value)]


def baseline(rows: Sequence[Row]) -> float:
    """The WER of full precision on one split, the worst of several models; if unknown, the best that there is."""
    own = [row["wer"] for row in rows if row["backend"] == "none"]
    return float(max(own) if own else min(row["wer"] for row in rows))


def ceiling(rows: Sequence[Row]) -> float:
    """The word error rate on one split beyond which a cell is a catastrophe."""
    usual = baseline(rows)
    return max(usual * CATASTROPHE, usual + 0.01)


def by_split(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of every split, in the order of the results."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["split"], []).append(row)
    return found
