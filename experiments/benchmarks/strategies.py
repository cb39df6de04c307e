"""Which `decoding.strategy` is the fastest on a real model: plain, draft and auto, for five configurations.

    python -m experiments.benchmarks.strategies MODEL_DIRECTORY LIBRISPEECH_ROOT [UTTERANCES]

LIBRISPEECH_ROOT has `test-clean`, of which UTTERANCES (64 without it) are taken at even distances, and `train-clean-5`
for calibration. One thread, float32, the ways in turns on the same batches, medians; nothing else should run.
`decoder` is generation without the encoder, which takes the same time in all ways; drafts are what full precision
says; `auto` takes drafts until they have cost more than plain decoding would have, of which it tries a few steps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from backends import quantize_spec
from experiments.benchmarks._ways import Round, gains, medians, one_round, timed
from experiments.benchmarks._worker import in_worker
from harness import cost, datasets
from harness.cost.operations import generated
from harness.experiment.cell import Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Data
from harness.recognition.calibrating import calibration_inputs
from harness.recognition.features import PreparedBatch
from harness.recognition.loading import load_recognizer
from harness.recognition.models import Recognizer
from harness.resolution.batching import batch_plan, lengths_of

REPEATS = 3
BATCH = 16
"""Utterances at most; fewer where there would be less than four batches."""
GRID: Sequence[dict[str, Any]] = (
    {"backend": "quanto", "bits": 8},
    {"backend": "hqq", "granularity": "per_group:64", "bits": 4},
    {"backend": "bitsandbytes", "granularity": "per_group:64", "bits": 4, "format": "nf4"},
    {"backend": "ptq", "granularity": "per_group:64", "bits": 3, "method": "gptq"},
    {"backend": "torch_dynamic", "scheme": "dynamic", "granularity": "per_channel", "bits": 8},
)


def experiment_of(model: str, root: str) -> Experiment:
    """What a run would be given."""
    speech = {"dataset": "librispeech", "root": root}
    return Experiment.model_validate(
        {
            "name": "strategies",
            "model": [{"path": model}],
            "data": [{**speech, "split": "test-clean"}],
            "calibration": {"data": {**speech, "split": "train-clean-5"}},
            "run": {"device": "cpu"},
            "grid": list(GRID),
        }
    )


def waveforms_of(data: Data, utterances: int) -> list[list[Any]]:
    """Utterances at even distances, batched as a run would."""
    speech = datasets.get(data.dataset).load(data).utterances
    by_id = {u.id: u for u in speech[:: max(1, len(speech) // utterances)][:utterances]}
    size = min(BATCH, max(1, len(by_id) // 4))
    return [[by_id[name].waveform() for name in names] for names in batch_plan(lengths_of(by_id.values()), size)]


def quantized(configuration: Configuration, experiment: Experiment) -> Recognizer:
    """The recogniser of a configuration, as a worker makes it."""
    recognizer = load_recognizer(Path(configuration.model.path), "float32", "cpu")
    calibration = configuration.drawn(experiment.calibration)
    inputs = None if calibration is None else calibration_inputs(recognizer, calibration, experiment.decoding)
    recognizer.model = quantize_spec(
        recognizer.model, configuration.spec, configuration.backend, configuration.option_values, inputs
    ).model
    return recognizer


def print_plain(label: str, recognizer: Recognizer, batches: Sequence[PreparedBatch], experiment: Experiment) -> None:
    """The row of a configuration to which drafts do not apply."""
    seconds = [timed(recognizer, batch, None, experiment.decoding)[0] for batch in batches]
    whole, decoder = (sum(column) for column in zip(*seconds, strict=True))
    print(f"{label:46} {'plain':6} {whole:8.2f} {decoder:8.2f}   drafts do not apply: its rows depend on each other")


def print_ways(label: str, rounds: Sequence[Round]) -> None:
    """A row for each way."""
    texts = rounds[-1].texts
    same = sum(a == b for a, b in zip(texts["plain"], texts["draft"], strict=True))
    drafted = [share for r in rounds for share in r.drafted]
    shares = {"plain": 0.0, "draft": 1.0, "auto": sum(drafted) / len(drafted)}
    for way, share in shares.items():
        whole, decoder = medians(rounds, way)
        faster, decoder_faster = gains(rounds, way)
        print(
            f"{label:46} {way:6} {whole:8.2f} {decoder:8.2f} {faster:6.2f} {decoder_faster:8.2f} {share:8.0%} "
            f"{same:5}/{len(texts['plain'])}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    model, root = (str(Path(path).resolve()) for path in sys.argv[1:3])
    experiment = experiment_of(model, root)
    decoding, machine = experiment.decoding, cost.environment(1, "")
    waveforms = waveforms_of(experiment.data[0], int(sys.argv[3]) if len(sys.argv) > 3 else 64)
    full = load_recognizer(Path(model), "float32", "cpu")
    batches = [full.prepare(own, decoding) for own in waveforms]
    drafts = [[generated(t.tokens, full.prompt) for t in full.transcribe(batch, decoding)] for batch in batches]
    print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}; {Path(model).name}")
    print(f"{len(batches)} batches, {sum(map(len, waveforms))} utterances, medians of {REPEATS} runs in turns\n")
    print(
        f"{'configuration':46} {'way':6} {'whole, s':>8} {'decoder':>8} {'gain':>6} {'decoder':>8} {'drafted':>8}  same"
    )
    for configuration in (c for c in configurations(experiment) if not c.is_baseline):
        recognizer = quantized(configuration, experiment)
        recognizer.transcribe(batches[-1], decoding)
        if configuration.takes_drafts:
            rounds = [one_round(recognizer, batches, drafts, decoding) for _ in range(REPEATS)]
            print_ways(configuration.label, rounds)
        else:
            print_plain(configuration.label, recognizer, batches, experiment)


if __name__ == "__main__":
    in_worker(main)
