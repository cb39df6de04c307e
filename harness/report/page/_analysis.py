"""Section of the page: what `harness.analyze` found, beside the cell's transcripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness._printing import counted
from harness.report.departures import departures
from harness.report.numbers import DASH, fixed, percent, points_interval
from harness.report.outputs import rounded_outputs
from harness.report.page._run import PageRun
from harness.report.strata import strata

_SHOWN = 8
"""Layers of a configuration that are shown, most damaging first."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class LayerLine:
    """One layer: its numbers as text, and its share of the worst layer's divergence, in per cent."""

    name: str
    divergence: str
    share: float
    nll: str
    error: str
    kurtosis: str
    peak: str
    after: str
    output_kurtosis: str
    output_peak: str
    output_range: str
    channels: str


@dataclass(frozen=True)
class Bar:
    """A named value, and the length of its bar in per cent."""

    name: str
    text: str
    share: float


@dataclass(frozen=True)
class SplitLines:
    """What the transcripts of one split show: where decoding departs, and the strata as rows of text."""

    split: str
    departure: str
    rows: tuple[tuple[str, str, str, str, str, str], ...]


@dataclass(frozen=True)
class Analysis:
    """One configuration."""

    label: str
    speech: str
    summary: str
    layers: tuple[LayerLine, ...]
    parts: tuple[Bar, ...]
    blocks: tuple[Bar, ...]
    splits: tuple[SplitLines, ...]


def analyses(run: PageRun) -> tuple[Analysis, ...]:
    """Every analysed configuration of the run, the one with the largest divergence first."""
    stored = [document for document in run.stored.analyses() if document["layers"]]
    return tuple(_analysis(run, d) for d in sorted(stored, key=lambda d: -_whole(d)["divergence"]))


def _whole(document: Row) -> Row:
    return next(part for part in document["parts"] if part["name"] == "all")


def _analysis(run: PageRun, document: Row) -> Analysis:
    worst = sorted(document["layers"], key=lambda layer: -layer["divergence"])
    own = [row for row in run.study.scored if row["configuration_id"] == document["configuration_id"]]
    return Analysis(
        run.label(own[0]) if own else document["configuration"],
        f"{counted(document['utterances'], 'utterance')} of {document['split']}",
        _summary(worst, document),
        tuple(_line(layer, worst[0]["divergence"]) for layer in worst[:_SHOWN]),
        _bars((part["name"], part["divergence"]) for part in document["parts"]),
        tuple(
            Bar(block["name"], f"{block['cosine']:.4f}", 100 * max(0.0, min(1.0, block["cosine"])))
            for block in document["blocks"]
        ),
        tuple(lines for row in own if (lines := _split(run, row)) is not None),
    )


def _summary(worst: Sequence[Row], document: Row) -> str:
    """What to look at first, in words."""
    whole = _whole(document)["divergence"]
    together = sum(layer["divergence"] for layer in worst[:3])
    first = ", ".join(layer["name"] for layer in worst[:3])
    sentences = [f"Alone, {first} do most damage: {together:.3g} of {whole:.3g} nats a token of the whole model."]
    sentences += filter(None, [rounded_outputs(document)])
    parts = {part["name"]: part["divergence"] for part in document["parts"]}
    if {"encoder", "decoder"} <= set(parts):
        more, less = sorted(("encoder", "decoder"), key=lambda part: -parts[part])
        sentences.append(f"The {more} costs {parts[more]:.3g}, the {less} {parts[less]:.3g}.")
    peaked = [layer for layer in document["layers"] if layer.get("outlier_channels")]
    if peaked:
        top = max(peaked, key=lambda layer: layer["input_peak_ratio"] or 0.0)
        channels = ", ".join(map(str, top["outlier_channels"][:4]))
        sentences.append(
            f"{counted(len(peaked), 'layer')} of {len(document['layers'])} have outlier channels at their input; the "
            f"largest, {fixed(top['input_peak_ratio'], 1)} times the median channel, in {top['name']} "
            f"(channel {channels})."
        )
    return " ".join(sentences)


def _line(layer: Row, most: float) -> LayerLine:
    return LayerLine(
        layer["name"],
        _small(layer["divergence"]),
        100 * layer["divergence"] / most if most > 0 else 0.0,
        _small(layer["nll"]),
        _small(layer.get("output_error")),
        fixed(layer.get("input_kurtosis"), 1),
        fixed(layer.get("input_peak_ratio"), 1),
        fixed(layer.get("transformed_input_peak_ratio"), 1),
        fixed(layer.get("output_kurtosis"), 1),
        fixed(layer.get("output_peak_ratio"), 1),
        fixed(layer.get("output_range_ratio"), 0),
        ", ".join(map(str, layer.get("outlier_channels", [])[:6])),
    )


def _bars(values: Iterable[tuple[str, float]]) -> tuple[Bar, ...]:
    own = list(values)
    most = max((value for _, value in own), default=0.0)
    return tuple(Bar(name, _small(value), 100 * value / most if most > 0 else 0.0) for name, value in own)


def _small(value: float | None) -> str:
    return DASH if value is None or not math.isfinite(value) else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _split(run: PageRun, row: Row) -> SplitLines | None:
    baseline = run.study.baseline_of(row)
    if baseline is None:
        return None
    own, theirs = (run.stored.utterances(cell["cell_id"]) for cell in (row, baseline))
    found = departures(own, theirs)
    place = "" if found.place is None else f" Where they differ, half do so within the first {found.place:.0%}."
    return SplitLines(
        row["split"],
        f"{found.identical:.0%} of utterances have full precision's tokens; {found.kept:.0%} of its tokens come before "
        f"the first difference.{place}",
        tuple(
            (
                s.by,
                s.name,
                str(s.utterances),
                percent(s.baseline_wer),
                percent(s.wer),
                points_interval(s.wer - s.baseline_wer, s.low, s.high),
            )
            for s in strata(own, theirs)
        ),
    )
