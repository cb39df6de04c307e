"""Measured columns of a cell: bytes, operations and seconds of a quantized configuration; and the remarks on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from backends import Quantized, QuantReport, Supported
from harness import datasets
from harness.cost.counting import Counts, count
from harness.cost.operations import Prices, Row, Transcriptions, cell_columns, generated, operation_rows
from harness.execution.task import Task
from harness.experiment.cell import Cell, Configuration
from harness.recognition.models import Recognizer
from harness.recognition.transcription import Transcription


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


def published(model: Any, model_directory: Path) -> Row:
    """How many parameters a float model has, and the narrowest float that holds every weight of its files."""
    fitting = ["float16", "bfloat16", "float32"]
    for path in _weights(model_directory):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (a method, not a mapping's)
                tensor = file.get_tensor(name)
                if tensor.is_floating_point():
                    fitting = [dtype for dtype in fitting if _holds(getattr(torch, dtype), tensor)]
    counted = sum(parameter.numel() for parameter in model.parameters())
    return {"checkpoint_parameters": counted, "narrowest_dtype": fitting[0] if fitting else "float64"}


def _weights(model_directory: Path) -> list[Path]:
    """The files that transformers loads: one, or those of an index; a checkpoint may have others beside them."""
    whole, index = (model_directory / f"model.safetensors{suffix}" for suffix in ("", ".index.json"))
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else sorted(model_directory.glob("*.safetensors"))
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [model_directory / name for name in sorted(set(names))]


def _holds(dtype: torch.dtype, tensor: Tensor) -> bool:
    return bool(torch.equal(tensor.to(dtype).to(tensor.dtype), tensor))


def apart(found: Transcription) -> Row:
    """How far the answers to the references are from the baseline's; empty where not all of these were at hand.

    The share of tokens at which both find the same one likeliest, and the lower bound of the divergence (see
    `harness.recognition.likelihood.divergences`): mean, 99th percentile and maximum over all tokens, nats.
    """
    judged = [row for row in found.rows if row["reference_tokens"] and not row["error"]]
    if not judged or any(row["reference_same_top"] is None for row in judged):
        return {}
    nats = np.array(found.divergences)
    return {
        "same_top": sum(row["reference_same_top"] for row in judged) / len(nats),
        "divergence_mean": float(nats.mean()),
        "divergence_p99": float(np.percentile(nats, 99)),
        "divergence_max": float(nats.max()),
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
    """MACs, BOPs and bytes that are moved, for a second of the audio that was transcribed."""
    tokens = tuple(len(generated(row["tokens"], found.prompt)) for row in found.rows if not row["error"])
    silent = len(found.rows) - len(tokens)
    windows = int(found.measured["windows"]) - silent
    return cell_columns(operations, Transcriptions(len(found.prompt), tokens, found.audio_seconds, windows))


def speed(configuration: Configuration, found: Transcription) -> Row:
    """Seconds always; rtfx only where the library's own kernels ran, all of them and plainly, with nothing beside."""
    seconds = found.measured["feature_seconds"] + found.measured["decode_seconds"]
    capability = configuration.capability
    whole = not found.drafted and found.measured["encoder_passes"] == found.measured["windows"]
    honest = found.alone and whole and isinstance(capability, Supported) and not capability.simulated
    rtfx = found.audio_seconds / seconds if honest and seconds else None
    return {"audio_seconds": found.audio_seconds, "compute_seconds": seconds, "rtfx": rtfx}


def remarks(task: Task, cell: Cell, quantized: Quantized, found: Transcription, *, lacks_answers: bool) -> str:
    """The remarks on a cell that is done: the adapter's notes, and what could not be decoded."""
    undecodable = [row["error"] for row in found.rows if row["error"]]
    more = (
        [f"{len(undecodable)} of {len(found.rows)} utterances could not be decoded, such as {undecodable[0]}"]
        if undecodable
        else []
    )
    if cut := found.measured.get("cut"):
        more.append(f"{cut} of {len(found.rows)} utterances were cut at the end of the model's window")
    if silent := sum(not row["reference_words"] for row in found.rows if not row["error"]):
        more.append(
            f"{silent} of {len(found.rows)} utterances have no words to be transcribed: what is, counts as errors"
        )
    if limited := found.measured.get("at_limit"):
        more.append(f"{limited} of {len(found.rows)} transcripts ended at their cap of tokens, not by themselves")
    if lacks_answers and any(row["reference_tokens"] for row in found.rows):
        more.append("no divergence: full precision's answers to the references were not all at hand")
    if found.stopped:
        more.append(
            f"stopped after {len(found.rows)} of {cell.utterances} utterances: certainly more than {task.worse_by:g} "
            "points of WER worse than full precision"
        )
    return "; ".join([*quantized.report.notes, *more])
