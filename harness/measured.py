"""What a quantized configuration saves, in the columns and rows that its cells store: bytes, operations, seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from backends import Quantized, QuantReport, Supported
from harness import datasets
from harness.cell import Configuration
from harness.cost.counting import Counts, count
from harness.cost.operations import Prices, Row, Transcriptions, cell_columns, generated, operation_rows
from harness.models import Recognizer
from harness.transcription import Transcription


def layer_rows(report: QuantReport) -> list[Row]:
    """One row per candidate module: what was asked for, what it got, and what it occupies."""
    return [
        {
            "name": layer.name,
            "kind": str(layer.kind),
            "shape": list(layer.shape),
            "requested": None if layer.requested is None else str(layer.requested),
            "effective": None if layer.effective is None else str(layer.effective),
            "reason": layer.reason,
            "stored_bits": layer.stored_bits,
            "effective_bits": layer.effective_bits,
            "weight_error": layer.weight_error,
        }
        for layer in report.layers
    ]


def sizes(quantized: Quantized, recognizer: Recognizer, scratch: Path) -> Row:
    """Bytes in memory, and of the weights' files as `Quantized.save` writes them (into `scratch`, for a moment)."""
    directory = scratch / "saved"
    quantized.save(directory, recognizer.processor)
    saved = sum(path.stat().st_size for path in directory.rglob("*") if path.suffix in (".safetensors", ".bin"))
    shutil.rmtree(directory)
    report = quantized.report
    return {
        "size_bytes": report.size_bytes,
        "file_bytes": saved,
        "size_reduction": report.size_reduction,
        "effective_bits": report.effective_bits,
    }


def operations_of(
    configuration: Configuration,
    quantized: Quantized,
    recognizer: Recognizer,
    found: Transcription,
    known: dict[Any, Counts],
) -> list[Row]:
    """What every layer costs for one window; a model that takes any length is given the utterances' mean length.

    Counts are kept in `known`: windows of one length cost the same.
    """
    seconds = found.audio_seconds / sum(not row["error"] for row in found.rows)
    silence = np.zeros(round(seconds * datasets.SAMPLE_RATE), dtype=np.float32)
    features = recognizer.inputs([silence])[recognizer.model.main_input_name]
    place = (features.shape, len(found.prompt))
    if place not in known:
        known[place] = count(recognizer.model.config, features, len(found.prompt))
    return operation_rows(known[place], Prices.of(configuration, quantized.report.layers))


def traffic(operations: list[Row], found: Transcription) -> Row:
    """MACs, BOPs and bytes that are moved, for a second of the audio that was heard."""
    tokens = tuple(len(generated(row["tokens"], found.prompt)) for row in found.rows if not row["error"])
    silent = len(found.rows) - len(tokens)
    windows = int(found.measured["windows"]) - silent
    return cell_columns(operations, Transcriptions(len(found.prompt), tokens, found.audio_seconds, windows))


def speed(configuration: Configuration, found: Transcription) -> Row:
    """Seconds always; rtfx only where the library's own kernels ran, plainly, with nothing beside them."""
    seconds = found.measured["feature_seconds"] + found.measured["decode_seconds"]
    capability = configuration.capability
    honest = found.alone and not found.drafted and isinstance(capability, Supported) and not capability.simulated
    rtfx = found.audio_seconds / seconds if honest and seconds else None
    return {"audio_seconds": found.audio_seconds, "compute_seconds": seconds, "rtfx": rtfx}
