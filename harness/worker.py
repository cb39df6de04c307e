"""The only room that loads a model: one process per configuration, which quantizes once and does all its splits.

It is started from a fork server that has torch and the modelling modules in memory. It writes every
finished cell itself and sends events to the runner; it dies with its parent.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from backends import AsrQuantError, ModelError, Quantized, Supported, UnsupportedError, quantize_spec
from harness import cost, datasets
from harness.cell import Cell, CellStatus, Configuration
from harness.cost.counting import Counts, count
from harness.cost.operations import (
    Prices,
    Transcriptions,
    cell_columns,
    generated,
    operation_rows,
)
from harness.cost.timing import timed
from harness.embedded import PLANTED
from harness.embedded.outliers import plant
from harness.features import FeatureStore
from harness.metrics import Normaliser
from harness.models import Recognizer, calibration_inputs, load_recognizer
from harness.processes import die_with_parent
from harness.store import FEATURES, CellRecord, RunDirectory, StoredRun
from harness.strategy import Strategy
from harness.task import Analysed, AnalysisTask, CellDone, Ended, Progress, Task, Timed, TimingTask
from harness.transcription import Drafting, Transcription, speech_of, transcribe_cell


def main(task: Task, channel: Connection) -> None:
    """Do `task` and report on `channel`; never raises: an error becomes an `Ended` event."""
    _guarded(_run, task, channel)


def compare(task: TimingTask, channel: Connection) -> None:
    """Time a configuration beside its twin and report on `channel`; never raises."""
    _guarded(_time, task, channel)


def analyse(task: AnalysisTask, channel: Connection) -> None:
    """Analyse a configuration beside full precision and report on `channel`; never raises."""
    _guarded(_analyse, task, channel)


def _guarded(action: Callable[[Any, Connection, Path, Path], None], task: Any, channel: Connection) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="asrquant-") as scratch:
        log = Path(scratch) / "log.txt"
        with _output_to(log):
            try:
                action(task, channel, Path(scratch), log)
            except (UnsupportedError, ModelError) as error:
                channel.send(Ended(CellStatus.UNSUPPORTED, str(error)))
            except (MemoryError, torch.OutOfMemoryError) as error:
                channel.send(Ended(CellStatus.OUT_OF_MEMORY, f"not enough memory: {error}"))
            except AsrQuantError as error:
                channel.send(Ended(CellStatus.FAILED, str(error)))
            except Exception as error:
                no_room = "can't allocate memory" in str(error)  # what torch's CPU allocator says, in a RuntimeError
                status = CellStatus.OUT_OF_MEMORY if no_room else CellStatus.FAILED
                channel.send(Ended(status, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
    channel.close()


def _loaded(task: Task) -> Recognizer:
    """The full-precision recogniser, with the process set up for it."""
    torch.set_num_threads(task.threads)
    transformers_logging.set_verbosity_error()
    configuration = task.configuration
    if configuration.device == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            "this installation of torch cannot use the GPU: install a CUDA build, or set device = cpu"
        )
    recognizer = load_recognizer(task.model_directory, configuration.model.dtype, configuration.device)
    strength = PLANTED.get(configuration.model.path)
    if strength is not None:
        plant(recognizer.model, strength)
    return recognizer


def _time(timing: TimingTask, channel: Connection, scratch: Path, log: Path) -> None:
    task, cell = timing.task, timing.task.cells[0]
    twin, recognizer = _loaded(task), _loaded(task)
    recognizer.model = _quantize(task, recognizer).model
    by_id = speech_of(cell)
    waveforms = [by_id[name].waveform() for name in cell.batches[0]]
    for row in timed(twin, recognizer, waveforms, task.decoding, timing.repeats, timing.warmup):
        channel.send(Timed(row))
    channel.send(Ended(CellStatus.DONE, ""))


def _analyse(wanted: AnalysisTask, channel: Connection, scratch: Path, log: Path) -> None:
    from harness.analysis.analysis import analyse as analysed

    task = wanted.task
    twin, recognizer = _loaded(task), _loaded(task)
    quantized = _quantize(task, recognizer)
    speech = [utterance for _, utterance in sorted(speech_of(task.cells[0]).items())]
    chosen = np.random.default_rng(0).permutation(len(speech))[: wanted.utterances]
    utterances = [speech[i] for i in sorted(chosen)]
    batches = twin.calibration_inputs([u.waveform() for u in utterances], [u.text for u in utterances], batch_size=8)
    found = analysed(twin.model, quantized.model, quantized.report, batches, lambda done: channel.send(Progress(0)))
    channel.send(Analysed({**found, "utterances": len(utterances)}))
    channel.send(Ended(CellStatus.DONE, ""))


def _run(task: Task, channel: Connection, scratch: Path, log: Path) -> None:
    configuration = task.configuration
    recognizer = _loaded(task)
    cost.reset_peak_memory()
    began = time.perf_counter()
    quantized = _quantize(task, recognizer)
    quantizing = {"quantize_seconds": time.perf_counter() - began, "quantize_peak_bytes": cost.peak_memory()}
    recognizer.model = quantized.model
    file_bytes = _saved_bytes(quantized, recognizer, scratch)
    layers = [_layer_row(layer) for layer in quantized.report.layers]
    normalise, strategy = Normaliser(task.model_directory), Strategy(task.decoding.strategy)
    features = FeatureStore(task.run_directory / FEATURES, task.model_directory)
    counts: dict[Any, Counts] = {}
    cost.reset_peak_memory()
    for cell in task.cells:
        drafting = Drafting(strategy, _said(cell, task))
        found = transcribe_cell(
            cell, recognizer, task.decoding, normalise, drafting, features, lambda count: channel.send(Progress(count))
        )
        peaks = {"peak_rss_bytes": cost.peak_memory(), "peak_device_bytes": cost.peak_device_memory()}
        operations = _operations(configuration, quantized, recognizer, found, counts)
        record = CellRecord(
            cell.cell_id,
            {
                "cell_id": cell.cell_id,
                "identity": cell.identity,
                "status": CellStatus.DONE,
                "reason": "; ".join(quantized.report.notes),
                "prompt": found.prompt,
                "measured": {
                    **_sizes(quantized, file_bytes),
                    **quantizing,
                    **_speed(configuration, found.measured, alone=task.alone and not found.drafted),
                    "drafted": found.drafted / len(found.rows),
                    **peaks,
                    **cell_columns(operations, _heard(found)),
                },
            },
            found.rows,
            layers,
            cost.environment(task.threads, task.command),
            _text_of(log),
            operations,
        )
        RunDirectory(task.run_directory).write(record)
        channel.send(CellDone(cell.cell_id))


def _said(cell: Cell, task: Task) -> dict[str, Sequence[int]]:
    """What full precision said, tokens after the prompt by utterance; empty where it may not be used as a draft.

    Without a prompt in front, stored tokens are those after it (`harness.cost.operations.generated`).
    """
    twin = task.drafts.get(cell.cell_id)
    if twin is None or task.decoding.strategy == "plain" or task.decoding.num_beams > 1:
        return {}
    run = StoredRun(task.run_directory)
    stored = run.finished(twin, CellStatus.DONE)
    if stored is None:
        return {}
    prompt = stored["prompt"]
    rows = run.utterances(twin)
    return {row["id"]: generated(row["tokens"], prompt) for row in rows}


def _quantize(task: Task, recognizer: Recognizer) -> Quantized:
    configuration = task.configuration
    inputs = None
    if configuration.calibrates:
        assert task.calibration is not None, "the plan refuses it without calibration speech"
        inputs = calibration_inputs(recognizer, task.calibration, task.decoding)
    return quantize_spec(
        recognizer.model, configuration.spec, configuration.backend, configuration.option_values, inputs
    )


def _saved_bytes(quantized: Quantized, recognizer: Recognizer, scratch: Path) -> int:
    """Size of the weights as `Quantized.save` writes them."""
    directory = scratch / "saved"
    quantized.save(directory, recognizer.processor)
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    shutil.rmtree(directory)
    return size


def _layer_row(layer: Any) -> dict[str, Any]:
    return {
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


def _operations(
    configuration: Configuration,
    quantized: Quantized,
    recognizer: Recognizer,
    found: Transcription,
    known: dict[Any, Counts],
) -> list[dict[str, Any]]:
    """What every layer costs for one window; a model that takes any length is given the utterances' mean length.

    Counts are kept in `known`: windows of one length cost the same.
    """
    seconds = found.measured["audio_seconds"] / len(found.rows)
    silence = np.zeros(round(seconds * datasets.SAMPLE_RATE), dtype=np.float32)
    features = recognizer.inputs([silence])[recognizer.model.main_input_name]
    place = (features.shape, len(found.prompt))
    if place not in known:
        known[place] = count(recognizer.model.config, features, len(found.prompt))
    return operation_rows(known[place], Prices.of(configuration, quantized.report.layers))


def _heard(found: Transcription) -> Transcriptions:
    tokens = tuple(len(generated(row["tokens"], found.prompt)) for row in found.rows)
    return Transcriptions(len(found.prompt), tokens, found.measured["audio_seconds"])


def _sizes(quantized: Quantized, file_bytes: int) -> dict[str, Any]:
    report = quantized.report
    return {
        "size_bytes": report.size_bytes,
        "file_bytes": file_bytes,
        "size_reduction": report.size_reduction,
        "effective_bits": report.effective_bits,
    }


def _speed(configuration: Configuration, measured: dict[str, float], *, alone: bool) -> dict[str, Any]:
    """Seconds always; rtfx only where the library's own kernels ran with nothing beside them."""
    seconds = measured["feature_seconds"] + measured["decode_seconds"]
    capability = configuration.capability
    honest = alone and isinstance(capability, Supported) and not capability.simulated
    rtfx = measured["audio_seconds"] / seconds if honest and seconds else None
    return {**measured, "compute_seconds": seconds, "rtfx": rtfx}


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send everything that this process and its libraries print to a file, C code included."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
    yield
    sys.stdout.flush()
    sys.stderr.flush()


def _text_of(log: Path) -> str:
    sys.stdout.flush()
    sys.stderr.flush()
    return log.read_text(errors="replace")
