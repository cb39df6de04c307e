"""One configuration, analysed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import nn

from backends import CalibrationInput, LayerReport, ModuleKind, QuantReport
from harness.analysis._answers import Answers, swap
from harness.analysis._blocks import block_rows
from harness.analysis._layers import layer_rows

Row = dict[str, Any]
_MULTIPLIED = (ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED)


def analyse(
    full: Any,
    quantized: Any,
    report: QuantReport,
    batches: Sequence[CalibrationInput],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Compare a quantized model with full precision, layer by layer; both are as before afterwards.

    Args:
        full: in full precision.
        quantized: its quantized form.
        report: of the quantization.
        batches: teacher-forced speech.
        progress: is told after every layer how many are done.

    Returns:
        `layers`: of every quantized layer its statistics (see `_layers`; linear layers only), and `divergence`,
        `nll` and `agreement` of full precision with this layer alone quantized (see `_answers.Loss`);
        `parts`: the same with all quantized layers of one part and kind, and with all of them;
        `blocks`: see `_blocks`.
    """
    chosen = {layer.name: layer for layer in report.layers if layer.effective is not None}
    answers = Answers(full, batches)
    linear = [name for name, layer in chosen.items() if layer.kind in _MULTIPLIED]
    statistics = {row["name"]: row for row in layer_rows(full, quantized, linear, batches)}
    rows = []
    for done, (name, layer) in enumerate(chosen.items(), 1):
        with _with_layers(full, quantized, [layer]):
            loss = answers.loss(full)
        own = statistics.get(name, {"name": name})
        about = {"kind": str(layer.kind), "effective": str(layer.effective), "weight_error": layer.weight_error}
        rows.append({**_finite(own), **about, **asdict(loss)})
        progress(done)
    parts = []
    for label, names in _parts(full, chosen).items():
        with _with_layers(full, quantized, [chosen[name] for name in names]):
            parts.append({"name": label, "layers": len(names), **asdict(answers.loss(full))})
    return {"layers": rows, "parts": parts, "blocks": block_rows(full, quantized, batches)}


def _finite(row: Mapping[str, Any]) -> Row:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _parts(model: Any, chosen: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the chosen layers by part, kinds other than linear apart; all of them last."""
    inside_encoder = {id(module) for module in model.get_encoder().modules()}
    found: dict[str, list[str]] = {}
    for name, layer in chosen.items():
        part = "encoder" if id(model.get_submodule(name)) in inside_encoder else "decoder"
        label = {ModuleKind.LINEAR: part, ModuleKind.TIED: "tied"}.get(layer.kind, f"{part} {layer.kind}")
        found.setdefault(label, []).append(name)
    return {**found, "all": list(chosen)}


@contextmanager
def _with_layers(model: Any, quantized: nn.Module, layers: Sequence[LayerReport]) -> Iterator[None]:
    """In the block these layers of `model` are the quantized ones; of a tie head and embedding."""
    places = [name for layer in layers for name in (layer.name, layer.lookup) if name]
    before = {name: swap(model, name, quantized.get_submodule(name)) for name in places}
    try:
        yield
    finally:
        for name, module in before.items():
            swap(model, name, module)
