"""Names that fit into a figure, and the places where they fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from backends.core.recipes import place, shown_recipe
from backends.core.spec import LINEAR, Rule
from harness.report.charts._style import GREY, SMALL, Row
from harness.report.labels import telling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_TELLING = ("scheme", "method", "modules", "activations", "symmetric", "parts", "outputs", "rest", "recipe", "options")
"""Columns that tell configurations of one library, format and granularity apart, most telling first."""
PARTS = ("encoder", "decoder")
_LINE = SMALL + 1.5
_NEAR = [(right, up * _LINE) for up in (0.7, -0.7, 0, 1.5, -1.5, 2.5, -2.5) for right in (5, -5, 14, -14)]
_FAR = [(right, up * _LINE) for up in (0, -1, -2, -3, -4, -5, -6, -7, -8) for right in (28, -28, 60, -60)]
"""Where a label is tried, in points from its mark; far from it only if it is needed."""


def part_of(name: str) -> str:
    """Encoder or decoder, as a module's name says; empty where it does not."""
    return next((part for part in PARTS if part in name.split(".")), "")


def code(row: Row) -> str:
    """The number format with its width: `int4`, `nf4`, `bf16`; `mixed` where layers differ."""
    if row["bits"] is None or row["format"] is None:
        return "mixed"
    return f"int{row['bits']}" if row["format"] == "int" else str(row["format"])


def short(row: Row) -> str:
    """Format and granularity: `int4 group 64`; a float format has no granularity.

    Of a recipe what most layers have, then how its other rules differ: `int4 group 64, tied int6`.
    """
    if row["scheme"] == "none":
        return code(row)
    if row.get("recipe"):
        return _of_recipe(row)
    return f"{code(row)} {_spread(_granularity(row))}".rstrip()


def _granularity(row: Row) -> str:
    """In the words of a spec; empty where layers differ."""
    if row["granularity"] != "per_group":
        return row["granularity"] or ""
    return "" if row["group_size"] is None else f"per_group:{int(row['group_size'])}"


def _spread(granularity: object) -> str:
    return str(granularity).removeprefix("per_").replace(":", " ")


def _of_recipe(row: Row) -> str:
    rules = [Rule(**rule) for rule in json.loads(row["recipe"])]
    special = list(takewhile(lambda rule: rule.parts or rule.match or not rule.modules >= LINEAR, rules))
    usual = {**row, "granularity": _granularity(row), **rules[-1].settings}
    if len(special) < len(rules):
        usual |= rules[len(special)].settings
    found = [f"{code(usual)} {_spread(usual['granularity'])}"]
    for rule in special:
        own = {**usual, **rule.settings}
        what = code(own) if code(own) != code(usual) else _spread(own["granularity"])
        found.append(" ".join([*place(rule), "float" if rule.skip else what]))
    return ", ".join(found)


def variants(rows: Iterable[Row]) -> dict[str, str]:
    """Model, precision and device of every cell, as far as these vary, by cell id; models by the end of their path."""
    rows = list(rows)
    keys = telling(rows)
    return {row["cell_id"]: " ".join(str(row[key]).rstrip("/").rpartition("/")[2] for key in keys) for row in rows}


def names(rows: Iterable[Row]) -> dict[str, str]:
    """A short name for every configuration, by its id; longer only where two would be the same.

    The usual level of a column goes without saying, but for the method, which no name implies.
    """
    own = {row["configuration_id"]: row for row in rows}
    found = {key: f"{row['backend']} {short(row)}" for key, row in own.items()}
    for column in _TELLING:
        for alike in _alike(found):
            levels = {key: _level(column, str(own[key].get(column, ""))) for key in alike}
            usual = min(levels.values(), key=lambda level: (level not in ("weight_only", "linear"), len(level), level))
            silent = {usual} if column != "method" or len(set(levels.values())) == 1 else set()
            found |= {key: f"{found[key]} {level}" for key, level in levels.items() if level not in silent}
    return found


def _level(column: str, text: str) -> str:
    """A level as part of a name; a truth value says of what."""
    if column == "recipe":
        return shown_recipe(text)
    return f"{column}={text.lower()}" if text in ("True", "False") else text


def _alike(named: Mapping[str, str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in named.items():
        groups.setdefault(name, []).append(key)
    return [group for group in groups.values() if len(group) > 1]


@dataclass(frozen=True)
class Label:
    """What is written beside a point, in data coordinates; one that is `needed` is written even where it is tight."""

    text: str
    x: float
    y: float
    needed: bool = False


def write(axes: Axes, labels: Sequence[Label], marks: Sequence[tuple[float, float]]) -> None:
    """Write labels beside their points where they meet no other label, none of `marks` and no edge; leave out the rest.

    Needed ones come first. The layout is computed for this, so all else must be drawn before.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    if figure is None or not marks:
        return
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in axes.transData.transform(list(marks))]
    for label in sorted(labels, key=lambda label: not label.needed):
        placed = _place(axes, label, taken)
        if placed is not None:
            taken.append(placed.padded(pixel))


def _place(axes: Axes, label: Label, taken: Sequence[Bbox]) -> Bbox | None:
    """Write one label at its first free place; returns the space that it takes."""
    from matplotlib.patheffects import withStroke

    style: dict[str, Any] = {"va": "center", "textcoords": "offset points", "zorder": 6}
    text = axes.annotate(label.text, (label.x, label.y), xytext=(0, 0), fontsize=SMALL, **style)
    text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
    text.set_in_layout(False)
    for right, up in [*_NEAR, *(_FAR if label.needed else [])]:
        text.set(ha="left" if right > 0 else "right", position=(right, up))
        box = text.get_window_extent()
        if _inside(box, axes.bbox) and not any(box.overlaps(other) for other in taken):
            _lead(axes, label, right, up)
            return box
    if label.needed:
        return box
    text.remove()
    return None


def _lead(axes: Axes, label: Label, right: float, up: float) -> None:
    """A thin line from a label to its mark, where it does not stand right beside it."""
    if abs(right) > 5 or abs(up) > _LINE:
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", (label.x, label.y), xytext=(right, up), textcoords="offset points", arrowprops=line)


def _inside(box: Bbox, frame: Bbox) -> bool:
    """Whether a label stays in its panel; half a line may stand out above."""
    return bool(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1 + SMALL)
