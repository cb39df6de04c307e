"""Worker process: loads a model, quantizes it once, and does all cells of one configuration.

It is started from a fork server that has torch and the modelling modules in memory. It writes every
finished cell itself and sends events to the runner; it dies with its parent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn
from transformers.utils import logging as transformers_logging

from backends import Quantized, UnsupportedError
from backends.core.fingerprint import fingerprint
from backends.core.generation import rules_in_force
from harness import cost
from harness.cost.counting import Counts
from harness.embedded import PLANTED
from harness.embedded.outliers import plant
from harness.execution.guarded import Stopped, guarded, stop_requested, text_of
from harness.execution.kept import kept_or
from harness.execution.measured import apart, layer_rows, operations_of, published, remarks, sizes, speed, traffic
from harness.execution.quantizing import known_too_large, quantize, timed_quantize
from harness.execution.task import (
    Analysed,
    AnalysisTask,
    CellDone,
    CellPaused,
    Phase,
    Progress,
    Replayed,
    ReplayTask,
    SaveTask,
    Task,
    Timed,
    TimingTask,
)
from harness.execution.timing import Speech, timed
from harness.experiment.cell import Cell, CellStatus
from harness.recognition.baseline import Baseline
from harness.recognition.encoder_states import EncoderStates
from harness.recognition.families import heard_at_most
from harness.recognition.features import FeatureStore
from harness.recognition.loading import load_recognizer
from harness.recognition.models import Recognizer
from harness.recognition.stopping import Stopping
from harness.recognition.strategy import Strategy
from harness.recognition.transcription import Drafting, Transcriber, speech_of
from harness.records.layout import FEATURES, LEASES, CellRecord
from harness.records.leases import shared
from harness.records.parts import Parts
from harness.records.recording import RunDirectory
from harness.records.store import StoredRun
from harness.resolution.batching import drawn_speakers
from harness.resolution.languages import spoken


def main(task: Task, channel: Connection) -> None:
    """Do `task` and report on `channel`; never raises: an error becomes an `Ended` event."""
    guarded(_run, task, channel)


def compare(task: TimingTask, channel: Connection) -> None:
    """Time a configuration beside its baseline and report on `channel`; never raises."""
    guarded(_time, task, channel)


def analyse(task: AnalysisTask, channel: Connection) -> None:
    """Analyse a configuration beside full precision and report on `channel`; never raises."""
    guarded(_analyse, task, channel)


def replay(task: ReplayTask, channel: Connection) -> None:
    """Transcribe batches again and report on `channel`; never raises."""
    guarded(_replay, task, channel)


def save_model(task: SaveTask, channel: Connection) -> None:
    """Quantize a configuration, save the model and report on `channel`; never raises."""
    guarded(_save_model, task, channel)


def _loaded(task: Task) -> Recognizer:
    """The full-precision recogniser, with the process set up for it."""
    torch.set_num_threads(task.threads)
    transformers_logging.set_verbosity_error()
    configuration = task.configuration
    if configuration.device == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            'no GPU can be used here, since this torch has no CUDA or sees no GPU: set run.device = "cpu"'
        )
    recognizer = load_recognizer(task.model_directory, configuration.model.dtype, configuration.device)
    strength = PLANTED.get(configuration.model.path)
    if strength is not None:
        plant(recognizer.model, strength)
    return recognizer


def _time(timing: TimingTask, channel: Connection, scratch: Path, log: Path) -> None:
    task, cell = timing.task, timing.task.cells[0]
    baseline, recognizer = _loaded(task), _loaded(task)
    recognizer.model = quantize(task, recognizer).model
    by_id = speech_of(cell)
    batch = [by_id[name] for name in cell.batches[len(cell.batches) // 2]][: 1 if timing.alone else None]
    decoding = task.decoding.model_copy(update={"language": spoken(batch[0], task.decoding)})
    longest = heard_at_most(baseline.family, baseline.processor, decoding)
    speech = Speech.of(list(by_id.values()), batch, longest)
    for row in timed(baseline, recognizer, speech, decoding, timing.repeats, timing.warmup):
        channel.send(Timed(row))


def _replay(wanted: ReplayTask, channel: Connection, scratch: Path, log: Path) -> None:
    task = wanted.task
    recognizer = _loaded(task)
    quantized = quantize(task, recognizer)
    recognizer.model = quantized.model
    features = FeatureStore(scratch / FEATURES, task.model_directory)
    transcriber = Transcriber(recognizer, task.decoding, task.scoring, features, lambda: False)
    layers = layer_rows(quantized.report)
    for cell in task.cells:
        for index in wanted.batches[cell.cell_id]:
            baseline = Baseline(task.run_directory, None, lambda: None)
            part, _ = transcriber.transcribe_batch(cell, index, Drafting(Strategy("plain"), {}), baseline)
            channel.send(Replayed(cell.cell_id, part.rows, layers))


def _analyse(wanted: AnalysisTask, channel: Connection, scratch: Path, log: Path) -> None:
    from harness.analysis.analysis import analyse as analysed

    task = wanted.task
    baseline, recognizer = _loaded(task), _loaded(task)
    quantized = quantize(task, recognizer)
    speech = [utterance for _, utterance in sorted(speech_of(task.cells[0]).items())]
    chosen = np.random.default_rng(0).permutation(len(speech))[: wanted.utterances]
    utterances = [speech[i] for i in sorted(chosen)]
    batches = baseline.calibration_inputs(
        [u.waveform() for u in utterances], [u.text for u in utterances], batch_size=8
    )
    found = analysed(baseline.model, quantized.model, quantized.report, batches, lambda done: channel.send(Progress(0)))
    channel.send(Analysed({**found, "utterances": len(utterances)}))


def _save_model(wanted: SaveTask, channel: Connection, scratch: Path, log: Path) -> None:
    recognizer = _loaded(wanted.task)
    quantize(wanted.task, recognizer).save(wanted.directory, recognizer.processor)


def _run(task: Task, channel: Connection, scratch: Path, log: Path) -> None:
    configuration = task.configuration
    recognizer = _loaded(task)
    known = published(recognizer.model, task.model_directory)
    if not configuration.is_baseline:
        channel.send(Phase("calibrating and quantizing" if configuration.calibrates else "quantizing"))
    if (excessive := known_too_large(task, recognizer)) is not None:
        for cell in task.cells:
            _leave(task, channel, excessive, 0.0, cell)
        return
    quantized, quantizing = kept_or(task, partial(timed_quantize, task, recognizer))
    recognizer.model = quantized.model
    leave = partial(_leave, task, channel, quantized.report.size_bytes, quantizing["quantize_seconds"])
    if task.largest is not None and quantized.report.size_bytes > task.largest:
        for cell in task.cells:
            leave(cell)
        return
    size = {**sizes(quantized, recognizer, scratch), **known}
    layers = layer_rows(quantized.report)
    features = FeatureStore(task.run_directory / FEATURES, task.model_directory)
    transcriber = Transcriber(
        recognizer,
        task.decoding,
        task.scoring,
        features,
        alone=lambda: task.alone and not shared(task.run_directory / LEASES),
        states=_shared_states(task, quantized),
    )
    strategy, counts = Strategy(task.decoding.strategy), dict[Any, Counts]()
    for cell in task.cells:
        parts = Parts(task.run_directory, cell.cell_id)
        baseline = Baseline(task.run_directory, task.baselines.get(cell.cell_id), partial(_tell, channel, 0, False))
        baseline_tokens: Mapping[str, Sequence[int]] = {}
        if _takes_drafts(task, cell):
            channel.send(Phase(f"waiting for full precision on {cell.data.label}"))
            baseline_tokens = baseline.transcripts()
        drafting = Drafting(strategy, baseline_tokens)
        channel.send(Phase(cell.data.label, task.utterances(cell)))
        stopping = _stopping(task, cell, baseline)
        found = transcriber.transcribe(cell, drafting, baseline, parts, partial(_tell, channel), stopping, task.batches)
        if found.paused:
            leave(cell)
            continue
        operations = operations_of(configuration, quantized, recognizer, found, counts)
        divergence = apart(found)
        lacks_answers = not configuration.is_baseline and not divergence
        measured = {
            **size,
            **quantizing,
            **found.measured,
            **speed(configuration, found),
            **traffic(operations, found),
            **divergence,
            "drafted": found.drafted / len(found.rows),
            "waited_seconds": baseline.waited,
            **({"worse_by": task.worse_by} if found.stopped else {}),
        }
        record = CellRecord(
            cell.cell_id,
            {
                **cell.about(
                    CellStatus.STOPPED if found.stopped else CellStatus.DONE,
                    remarks(task, cell, quantized, found, lacks_answers=lacks_answers),
                ),
                "prompt": found.prompt,
                "rules": rules_in_force(quantized.model.generation_config),
                "measured": measured,
            },
            found.rows,
            layers,
            cost.environment(task.threads, task.command, cell.identity["seed"]),
            text_of(log),
            operations,
            _answers(cell, parts),
        )
        RunDirectory(task.run_directory).write(record)
        if states := transcriber.states(cell):
            states.remove()
        channel.send(CellDone(cell.cell_id))


def _leave(task: Task, channel: Connection, size_bytes: int, quantize_seconds: float, cell: Cell) -> None:
    """Leave the rest of a cell for later."""
    Parts(task.run_directory, cell.cell_id).save_size(size_bytes)
    channel.send(CellPaused(cell.cell_id, size_bytes, quantize_seconds))


def _shared_states(task: Task, quantized: Quantized) -> Callable[[Cell], EncoderStates | None]:
    """For a cell of the task, where its encoder's states are shared; nowhere if nobody may have the same."""
    own = None
    if task.sharing and task.cache_bytes and isinstance(quantized.model, nn.Module):
        own = fingerprint(quantized, quantized.model.get_encoder())  # type: ignore[operator]
    run = StoredRun(task.run_directory)

    def states(cell: Cell) -> EncoderStates | None:
        others = task.sharing.get(cell.cell_id)
        if own is None or not others:
            return None
        group = min(cell.cell_id, *others)
        wanted = partial(_any_missing, run, others)
        return EncoderStates(task.run_directory, group, own, task.cache_bytes, wanted)

    return states


def _any_missing(run: StoredRun, cell_ids: Sequence[str]) -> bool:
    return any(run.stamp(cell_id) is None for cell_id in cell_ids)


def _tell(channel: Connection, utterances: int, kept: bool) -> None:
    channel.send(Progress(utterances, kept))
    if stop_requested.is_set():
        raise Stopped


def _stopping(task: Task, cell: Cell, baseline: Baseline) -> Stopping | None:
    """What ends the cell early if it is hopeless; a baseline is not."""
    if task.worse_by is None or cell.configuration.is_baseline:
        return None
    return Stopping(baseline, drawn_speakers(speech_of(cell).values(), task.seed), task.worse_by / 100)


def _takes_drafts(task: Task, cell: Cell) -> bool:
    """Whether the baseline's transcripts may be checked as drafts."""
    greedy = task.decoding.strategy != "plain" and task.decoding.num_beams == 1
    return greedy and task.configuration.takes_drafts and cell.cell_id in task.baselines


def _answers(cell: Cell, parts: Parts) -> bytes:
    """What a baseline answers to the references of all its batches, as one file; nothing for any other cell."""
    if not cell.configuration.is_baseline:
        return b""
    files = [path for index in range(len(cell.batches)) if (path := parts.answers(index)) is not None]
    return save({name: tensor for path in files for name, tensor in load_file(path).items()})
