"""What the harness costs beside the models: a cell's wall time less model calls, loading and quantizing.

    python -m experiments.benchmarks.overhead [SPEECH] > experiments/benchmarks/overhead.txt

Every configuration of the embedded benchmark's first libraries, one after the other in this process, as a worker does
them; with SPEECH, a directory in the tree of LibriSpeech, also a model of the shape of whisper-small with random
weights on its recordings. Model calls are `generate` and the forward pass that judges the references; all else counts
as overhead: reading and resampling speech, features (which the first cell of a run computes for all), scoring,
counting operations, saving the weights to learn their size, writing the cell.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers.generation.utils import GenerationMixin

from experiments.benchmarks._shapes import save_whisper
from harness import cost
from harness.execution import worker
from harness.execution.task import Task
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations, select
from harness.recognition import transcription
from harness.records.recording import RunDirectory
from harness.resolution.identity import cells_of, resolve

THREADS = 1
_SMALL = """
name = "small"
model = "{model}"
data = [{{ dataset = "librispeech", split = "test-clean", root = "{speech}", limit = 48 }}]
decoding = {{ batch_size = 16, max_new_tokens = 40 }}
run = {{ device = "cpu" }}
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = 8
"""
WAYS = "backend=none|quanto|hqq,bits=None|32|8|4"


class Channel:
    """Takes the worker's events and forgets them."""

    def send(self, event: Any) -> None:
        """Nothing."""


class Timer:
    """Seconds in whatever it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def wrapping(self, *places: tuple[Any, str]) -> Iterator[None]:
        """Count the calls of these attributes inside the block."""
        with ExitStack() as stack:
            for owner, name in places:
                stack.enter_context(mock.patch.object(owner, name, self._timed(getattr(owner, name))))
            yield

    def _timed(self, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - began

        return call


def measure(file: Path, only: str, *overrides: str) -> None:
    """Print a row for every configuration."""
    experiment = load_experiment(file, [*overrides, f"run.threads_per_worker={THREADS}"])
    chosen = select(configurations(experiment), only)
    with tempfile.TemporaryDirectory() as scratch:
        directory = RunDirectory(Path(scratch) / "run")
        resolved = resolve(experiment, chosen, directory.path)
        for configuration in chosen:
            cells = cells_of(configuration, experiment, resolved)
            task = Task.of(cells, experiment, resolved.models[configuration.model].directory, directory.path)
            log = Path(scratch) / "log.txt"
            log.touch()
            model, preparing = Timer(), Timer()
            calls = ((GenerationMixin, "generate"), (transcription, "reference_likelihoods"))
            began = time.perf_counter()
            with model.wrapping(*calls), preparing.wrapping((worker, "_loaded"), (worker, "_quantize")):
                worker._run(task, Channel(), Path(scratch), log)  # type: ignore[arg-type]
            wall = time.perf_counter() - began
            rest = wall - model.seconds - preparing.seconds
            utterances = sum(len(batch) for cell in cells for batch in cell.batches)
            print(
                f"{configuration.label:44} {utterances:6} {wall:8.2f} {preparing.seconds:8.2f} {model.seconds:8.2f} "
                f"{rest:8.2f} {100 * rest / wall:6.1f} %",
                flush=True,
            )


def main() -> None:
    """Print the table."""
    machine = cost.environment(THREADS, "")
    torch.set_num_threads(THREADS)
    print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}\n")
    print(f"{'configuration':44} {'utt.':>6} {'wall, s':>8} {'prepare':>8} {'models':>8} {'rest':>8}   share")
    measure(Path("experiments/embedded.toml"), WAYS)
    if sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            model = save_whisper("small", Path(scratch) / "model")
            file = Path(scratch) / "small.toml"
            file.write_text(_SMALL.format(model=model, speech=Path(sys.argv[1]).resolve()))
            print("\nshape of whisper-small, random weights, recordings of LibriSpeech")
            measure(file, "backend=hqq")


if __name__ == "__main__":
    main()
