"""What calibrating costs: time and peak memory of every method on a model of whisper-small's shape.

    python -m experiments.benchmarks.calibration_cost LIBRISPEECH_ROOT > experiments/benchmarks/calibration_cost.txt

The weights are random, the speech is real: 32 utterances of LibriSpeech, joined into windows of 30 seconds. Every
method has a process of its own. Methods that learn by gradients are run on one block of the encoder and one of
the decoder, and their time is multiplied by the number of blocks.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness import cost

UTTERANCES = 32
BLOCKS = 12


@dataclass(frozen=True)
class Case:
    """One line of the table: a method with a usual setting for it."""

    method: str
    setting: str
    arguments: dict[str, Any] = field(default_factory=dict)
    one_block: bool = False


W4 = {"scheme": "weight_only", "granularity": "per_channel", "bits": 4}
W8A8 = {"scheme": "dynamic", "granularity": "per_channel", "bits": 8}
CASES = (
    Case("rtn", "W4A16, clip", W4 | {"options": {"clip": True}}),
    Case("smoothquant", "W8A8", W8A8),
    Case("quarot", "W8A8", W8A8),
    Case("awq", "W4A16", W4),
    Case("gptq", "W4A16", W4),
    Case("gptaq", "W4A16", W4),
    Case("spqr", "W3A16 g64", W4 | {"granularity": "per_group:64", "bits": 3}),
    Case("gptq", "mixed, 3.25 bits", W4 | {"bits": None, "options": {"target_bits": 3.25}}),
    Case("omniquant", "W4A16", W4, one_block=True),
    Case("tesseraq", "W4A16", W4, one_block=True),
)


def measure(case: Case, checkpoint: Path, root: Path, threads: int, channel: Connection) -> None:
    """Calibrate and quantize; send seconds, and peak memory in bytes before and while."""
    import torch

    from backends import quantize
    from harness.experiment.tables import Calibration, Data, Decoding
    from harness.recognition.calibrating import calibration_inputs
    from harness.recognition.loading import load_recognizer

    torch.set_num_threads(threads)
    recognizer = load_recognizer(checkpoint, "float32", "cpu")
    speech = Calibration(data=Data(dataset="librispeech", split="test-clean", root=str(root)), utterances=UTTERANCES)
    inputs = calibration_inputs(recognizer, speech, Decoding())
    windows = sum(len(batch.inputs["input_features"]) for batch in inputs)
    cost.reset_peak_memory()
    before, began = cost.peak_memory(), time.perf_counter()
    quantize(recognizer.model, backend="ptq", method=case.method, calibration=inputs, **case.arguments)
    channel.send((windows, time.perf_counter() - began, before, cost.peak_memory()))


def in_a_process(case: Case, checkpoint: Path, root: Path, threads: int) -> tuple[int, float, int, int]:
    """What `measure` sends."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(case, checkpoint, root, threads, sender))
    process.start()
    sender.close()
    measured: tuple[int, float, int, int] = receiver.recv()
    process.join()
    return measured


def main() -> None:
    """Print the table."""
    from tests.harness.checkpoints import WHISPER_SMALL, save_whisper

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="directory of LibriSpeech, with test-clean in it")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        whole = save_whisper(Path(scratch) / "whole", width=768, **WHISPER_SMALL)
        shallow = WHISPER_SMALL | {"encoder_layers": 1, "decoder_layers": 1}
        one_block = save_whisper(Path(scratch) / "one", width=768, **shallow)
        machine = cost.environment(arguments.threads, "")
        print(
            f"whisper-small's shape, {UTTERANCES} utterances of LibriSpeech test-clean, {arguments.threads} thread(s)"
        )
        print(f"{machine['processor']}, {machine['cores']} cores, torch {machine['packages']['torch']}\n")
        print(f"{'method':12} {'setting':18} {'windows':>7} {'minutes':>8} {'model, GiB':>11} {'peak, GiB':>10}")
        for case in CASES:
            checkpoint = one_block if case.one_block else whole
            windows, seconds, before, peak = in_a_process(case, checkpoint, arguments.root, arguments.threads)
            minutes = seconds / 60 * (BLOCKS if case.one_block else 1)
            note = f"  extrapolated from {seconds / 60:.1f} min for one of {BLOCKS} blocks" if case.one_block else ""
            print(
                f"{case.method:12} {case.setting:18} {windows:7} {minutes:8.1f} {before / 2**30:11.2f} "
                f"{peak / 2**30:10.2f}{note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
