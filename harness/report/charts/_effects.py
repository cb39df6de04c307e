"""Figure: the effect of every factor, all else equal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.charts._style import SMALL, baseline, by_split, ceiling, finite, stacked, styled
from harness.report.units import unit_of
from harness.stats import Effect, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 0.115
"""Inches between lines."""
_CHARACTERS = 26
_MARKS = ("o", "s", "D", "^", "v", "P")
_FACES = ("black", "white", "#999999")


@dataclass(frozen=True)
class _Entry:
    """One line of the forest: a factor's name, or two of its levels with their effect on every split."""

    label: str
    effects: tuple[Effect, ...] = ()

    @property
    def lines(self) -> int:
        return max(len(self.effects), self.label.count("\n") + 1)


@styled
def forest(study: Study) -> Figure | None:
    """Effects of single factors from matched pairs, by factor and levels; `None` where no two cells match.

    Right of them the number of pairs. An effect that is a catastrophe stands at the edge with its value.
    """
    from matplotlib.lines import Line2D

    found = study.effects
    if not found:
        return None
    splits = list(dict.fromkeys(effect.split for effect in found))
    entries = _entries(found)
    height = sum(entry.lines for entry in entries) * _LINE + (len(entries) + 2) * _LINE / 2
    handles = [
        Line2D([], [], linestyle="", color="black", marker=_MARKS[i % 6], markerfacecolor=_FACES[i % 3], label=split)
        for i, split in enumerate(splits)
    ]
    figure, (axes,) = stacked([height], handles, extra=0.45)
    _draw(axes, entries, splits, _edges(study, found))
    axes.set_xlabel(f"effect on {unit_of(study.scored).full_rate} (points; 95 % interval)")
    return figure


def _entries(found: Sequence[Effect]) -> list[_Entry]:
    """Factors with their levels, in the order in which they are found."""
    levels: dict[tuple[str, str, str], list[Effect]] = {}
    for effect in found:
        levels.setdefault((effect.factor, effect.base, effect.level), []).append(effect)
    entries: list[_Entry] = []
    for factor in dict.fromkeys(effect.factor for effect in found):
        entries.append(_Entry(factor))
        for (_, base, level), own in levels.items():
            if own[0].factor == factor:
                entries.append(_Entry("\n".join(_wrapped(f"{base} → {level}")), tuple(own)))
    return entries


def _wrapped(text: str) -> list[str]:
    """Lines of about `_CHARACTERS`; also broken behind a colon or a plus, so that no level is cut."""
    spaced = text.replace(":", ":\u200b ").replace("+", "+\u200b ") if len(text) > _CHARACTERS else text
    return [line.replace("\u200b ", "") for line in textwrap.wrap(spaced, _CHARACTERS, break_long_words=True)]


def _edges(study: Study, found: Sequence[Effect]) -> tuple[float, float]:
    """Lowest and highest value drawn, in points: of all effects that are no catastrophe, with their intervals."""
    rows = by_split(study.scored)
    worst = {split: ceiling(own) - baseline(own) for split, own in rows.items()}
    usual = [e for e in found if abs(e.difference) <= worst[e.split]]
    values = [100 * v for e in usual for v in finite((e.difference, e.low, e.high))]
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = max(0.05 * (high - low), 0.05)
    return low - margin, high + margin


def _draw(axes: Axes, entries: Sequence[_Entry], splits: Sequence[str], edges: tuple[float, float]) -> None:
    positions, y = [], 0.0
    for entry in entries:
        y += entry.lines / 2 + 0.25
        positions.append(y)
        for i, effect in enumerate(entry.effects):
            _mark(axes, effect, y + i - (len(entry.effects) - 1) / 2, splits.index(effect.split), edges)
        if entry.effects:
            pairs = dict.fromkeys(str(effect.pairs) for effect in entry.effects)
            axes.text(1.06, y, ", ".join(pairs), transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center")
        y += entry.lines / 2 + 0.25
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    axes.set(xlim=edges, ylim=(y + 0.25, 0))
    axes.text(
        1.06, positions[0], "pairs", transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center", weight="bold"
    )
    axes.set_yticks(positions, [entry.label for entry in entries])
    axes.tick_params(axis="y", length=0)
    for text, entry in zip(axes.get_yticklabels(), entries, strict=True):
        text.set(weight="normal" if entry.effects else "bold", linespacing=1.0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def _mark(axes: Axes, effect: Effect, y: float, split: int, edges: tuple[float, float]) -> None:
    value = effect.difference * 100
    shown = min(max(value, edges[0]), edges[1])
    shape, face = _MARKS[split % 6], _FACES[split % 3]
    axes.plot(shown, y, shape, color="black", markerfacecolor=face, markersize=3.5, zorder=3, clip_on=False)
    if shown == value:
        axes.hlines(y, effect.low * 100, effect.high * 100, color="black", linewidth=0.8)
        return
    text, side, shift = (f"{value:+.1f} →", "right", -4) if value > 0 else (f"← {value:+.1f}", "left", 4)
    place: dict[str, Any] = {"textcoords": "offset points", "xytext": (shift, 0), "ha": side, "va": "center"}
    axes.annotate(text, (shown, y), fontsize=SMALL, **place)
