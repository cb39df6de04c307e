"""The whole embedded grid, beside the loop that a user would write with `transformers.pipeline`.

    python -m experiments.benchmarks.pipeline_loop > experiments/benchmarks/pipeline_loop.txt

Both do the same configurations on the same speech with the same number of cores, in turns, each from a fresh
process: `harness.grid` with one worker a core and one thread each; the loop with as many threads as cores, batches
of 8, and greedy decoding like the grid (the pipeline's own default is five beams). The loop loads the model, quantizes
it with the same adapter, transcribes both splits and counts word errors; the grid also saves, counts operations,
judges the references and keeps everything that it measured.

The last lines say what the encoders of the grid take alone, in its batches: they take every utterance once for every
configuration, however it is decoded, so that no way of decoding is more times as fast as the loop than is said there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmarks._worker import in_worker

REPEATS = 2
BATCH = 8
FILE = Path("experiments/embedded.toml")


def loop() -> None:
    """What a user would write; prints a line for every configuration."""
    import jiwer
    import torch
    from transformers import pipeline

    from harness import datasets
    from harness.experiment.config import load_experiment
    from harness.metrics import Normaliser

    torch.set_num_threads(_cores())
    experiment = load_experiment(FILE)
    normalise = Normaliser()
    speech = [datasets.get(data.dataset).load(data).utterances for data in experiment.data]
    waveforms = [[utterance.waveform() for utterance in split] for split in speech]
    for label, recognizer in _quantized(experiment):
        recognise: Any = pipeline(
            "automatic-speech-recognition",
            model=recognizer.model,
            tokenizer=recognizer.processor.tokenizer,
            feature_extractor=recognizer.processor.feature_extractor,
            batch_size=BATCH,
        )
        rates = []
        for split, audio in zip(speech, waveforms, strict=True):
            found = recognise(
                [{"raw": waveform, "sampling_rate": datasets.SAMPLE_RATE} for waveform in audio],
                generate_kwargs={"max_new_tokens": experiment.decoding.max_new_tokens, "num_beams": 1},
            )
            expected = [normalise(utterance.text) for utterance in split]
            rates.append(100 * jiwer.wer(expected, [normalise(one["text"]) for one in found]))
        print(f"{label}  {rates[0]:.2f} {rates[1]:.2f}", flush=True)


def encoders() -> None:
    """Print the seconds that the encoders of all configurations take, on one thread, the first batch of each twice."""
    import torch

    from harness import datasets
    from harness.embedded import MODEL_DIRECTORY
    from harness.experiment.config import load_experiment
    from harness.recognition.loading import load_recognizer
    from harness.resolution.batching import batch_plan, lengths_of

    torch.set_num_threads(1)
    experiment = load_experiment(FILE)
    full, batches = load_recognizer(MODEL_DIRECTORY, "float32", "cpu"), []
    for data in experiment.data:
        by_id = {u.id: u for u in datasets.get(data.dataset).load(data).utterances}
        for names in batch_plan(lengths_of(by_id.values()), experiment.decoding.batch_size):
            batches.append(full.inputs([by_id[name].waveform() for name in names])["input_features"])
    seconds = 0.0
    with torch.no_grad():
        for _, recognizer in _quantized(experiment):
            encoder, dtype = recognizer.model.get_encoder(), recognizer.model.dtype
            encoder(batches[0].to(dtype))
            began = time.perf_counter()
            for batch in batches:
                encoder(batch.to(dtype))
            seconds += time.perf_counter() - began
    print(seconds)


def _quantized(experiment: Any) -> Iterator[tuple[str, Any]]:
    """The label of every configuration that can be done, and its recogniser, one after the other."""
    from transformers.utils import logging

    from backends import Supported, quantize_spec
    from harness.embedded import MODEL_DIRECTORY
    from harness.experiment.plan import configurations
    from harness.recognition.calibrating import calibration_inputs
    from harness.recognition.loading import load_recognizer

    logging.set_verbosity_error()
    for configuration in configurations(experiment):
        if not isinstance(configuration.capability, Supported):
            continue
        recognizer = load_recognizer(MODEL_DIRECTORY, configuration.model.dtype, "cpu")
        inputs = None
        if configuration.calibrates:
            inputs = calibration_inputs(recognizer, experiment.calibration, experiment.decoding)
        recognizer.model = quantize_spec(
            recognizer.model, configuration.spec, configuration.backend, configuration.option_values, inputs
        ).model
        yield configuration.label, recognizer


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _seconds(*arguments: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Print the table."""
    from harness import cost

    machine = cost.environment(_cores(), "")
    print(f"{machine['processor']}, {_cores()} cores, torch {machine['packages']['torch']}")
    print(f"{'run':>3} {'grid, s':>8} {'loop, s':>8} {'ratio':>6}")
    slowest, rows = 0.0, ""
    for run in range(REPEATS):
        with tempfile.TemporaryDirectory() as directory:
            ours, _ = _seconds("-m", "harness.grid", str(FILE), "--out", directory)
        theirs, rows = _seconds("-m", "experiments.benchmarks.pipeline_loop", "loop")
        slowest = max(slowest, theirs)
        print(f"{run + 1:3} {ours:8.1f} {theirs:8.1f} {theirs / ours:6.2f}", flush=True)
    alone = float(_seconds("-m", "experiments.benchmarks.pipeline_loop", "encoders")[1])
    least = alone / _cores()
    print(f"\nthe encoders alone: {alone:.1f} s of one core, {least:.1f} s on {_cores()}")
    print(f"so at most {slowest / least:.2f} times as fast as the loop, were decoding and all else free")
    print(f"\nword error rates of the loop, %: clean, other\n{rows}")


if __name__ == "__main__":
    {"loop": loop, "encoders": partial(in_worker, encoders)}.get(sys.argv[-1], main)()
