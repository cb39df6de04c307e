"""matplotlib charts of results; colours are Okabe and Ito's, which colour-blind readers tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = {
    "none": ("full precision", "#000000", "*"),
    "cast": ("cast to 16 bits", "#999999", "P"),
    "torch_dynamic": ("PyTorch dynamic", "#0072B2", "o"),
    "torch_static": ("PyTorch static", "#56B4E9", "s"),
    "quanto": ("Optimum-Quanto", "#D55E00", "^"),
    "hqq": ("HQQ", "#009E73", "D"),
    "bitsandbytes": ("bitsandbytes", "#CC79A7", "v"),
}
_OTHER = ("#E69F00", "X")
_CLIP = 2.5
"""A word error rate of more than so many times the baseline's is drawn at the edge."""


def size_vs_wer(results: pandas.DataFrame) -> Figure:
    """Size against word error rate, one panel per split, one mark per configuration; full precision as a line.

    Args:
        results: rows as in `results.parquet`; those that are not `done` are left out.
    """
    from matplotlib.figure import Figure

    done = results[results["status"] == "done"]
    splits = list(dict.fromkeys(done["split"]))
    figure = Figure(figsize=(4.2 * max(1, len(splits)), 4.2), layout="constrained")
    panels = figure.subplots(1, max(1, len(splits)), squeeze=False)[0]
    for axes, split in zip(panels, splits, strict=False):
        _panel(axes, done[done["split"] == split], split)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _panel(axes: Axes, rows: pandas.DataFrame, split: str) -> None:
    baseline = float(rows[rows["backend"] == "none"]["wer"].iloc[0]) * 100
    top = max(baseline * _CLIP, baseline + 1)
    for backend in dict.fromkeys(rows["backend"]):
        own = rows[rows["backend"] == backend]
        label, colour, marker = _STYLES.get(backend, (backend, *_OTHER))
        wer = (own["wer"].astype(float) * 100).clip(upper=top)
        axes.scatter(own["size_bytes"] / 1e6, wer, s=42, color=colour, marker=marker, label=label, alpha=0.85, zorder=3)
        _name_clipped(axes, own, top)
    axes.axhline(baseline, color="#000000", linewidth=0.8, linestyle=":", zorder=1)
    axes.set(title=split, xlabel="size of the model (MB)", ylabel="word error rate (%)", ylim=(0, top * 1.08))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _name_clipped(axes: Axes, rows: pandas.DataFrame, top: float) -> None:
    """Say the rate of a mark that is drawn at the edge."""
    for row in rows[rows["wer"].astype(float) * 100 > top].to_dict("records"):
        text = f"{float(row['wer']):.0%} ↑"
        place: dict[str, Any] = {"textcoords": "offset points", "xytext": (6, -3), "fontsize": 7}
        axes.annotate(text, (row["size_bytes"] / 1e6, top), **place)
