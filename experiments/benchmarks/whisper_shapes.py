"""What drafts save on models of published shapes: whisper-tiny and whisper-small, on real recordings.

    python -m experiments.benchmarks.whisper_shapes SPEECH > experiments/benchmarks/whisper_shapes.txt

SPEECH is a directory in the tree of LibriSpeech. The weights are random (see `_shapes`), so what is said means
nothing, and every utterance is as long as the cap: 40 tokens, about ten seconds of read speech. Drafts come from a
perturbed copy: the model's own words with one token in 400 replaced, as int8 would, or one in 40, as int4 would. One
thread, float32; all ways in turns; `decoding` is generation less the encoder. Memory is the process's peak while it
decodes.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backends import quantize
from experiments.benchmarks._shapes import processor, whisper
from experiments.benchmarks._ways import timed
from experiments.benchmarks._worker import in_worker
from harness import cost, datasets
from harness.cost.operations import generated
from harness.experiment.tables import Data, Decoding
from harness.recognition.families import FAMILIES
from harness.recognition.models import Recognizer

TOKENS = 40
DECODING = Decoding(max_new_tokens=TOKENS)
WRONG = (400, 40)
"""One token in so many of a draft is wrong: 90 and 37 % of the utterances have none."""
SIZES = {"tiny": (16, 3), "small": (8, 1)}
"""Utterances of the batch, and runs."""
CASES: Sequence[tuple[str, dict[str, Any] | None]] = (
    ("float32", None),
    ("quanto int8, head tied", {"backend": "quanto", "granularity": "per_channel", "bits": 8}),
    (
        "quanto int8 with head",
        {"backend": "quanto", "granularity": "per_channel", "bits": 8, "modules": ["linear", "head"]},
    ),
    ("hqq int4 g64", {"backend": "hqq", "granularity": "per_group:64", "bits": 4}),
    ("bitsandbytes nf4 g64", {"backend": "bitsandbytes", "granularity": "per_group:64", "bits": 4, "format": "nf4"}),
)


def recognizer_of(size: str) -> Recognizer:
    """A model of that shape."""
    return Recognizer(whisper(size), processor(), FAMILIES["whisper"])


def perturbed(said: Sequence[Sequence[int]], wrong: int) -> list[list[int]]:
    """Drafts that are wrong in one token of `wrong`."""
    rng = np.random.default_rng(wrong)
    return [[int(rng.integers(3, 500)) if rng.random() < 1 / wrong else token for token in row] for row in said]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    machine = cost.environment(1, "")
    print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}")
    root = str(Path(sys.argv[1]).resolve())
    speech = datasets.get("librispeech").load(Data(dataset="librispeech", split="test-clean", root=root)).utterances
    for size, (utterances, repeats) in SIZES.items():
        print(f"\nshape of whisper-{size}, {utterances} utterances, {TOKENS} tokens, medians of {repeats}")
        print(
            f"{'configuration':24} {'way':14} {'s':>8} {'decoding':>9} "
            f"{'gain':>6} {'decoding':>9} {'same':>7} {'MiB':>6}"
        )
        waveforms = [u.waveform() for u in speech[:: len(speech) // utterances][:utterances]]
        for label, arguments in CASES:
            recognizer = recognizer_of(size)
            if arguments is not None:
                recognizer.model = quantize(recognizer.model, "weight_only", **arguments).model
            measure(label, recognizer, waveforms, repeats)


def measure(label: str, recognizer: Recognizer, waveforms: Sequence[Any], repeats: int) -> None:
    """Print the rows of one configuration."""
    batch = recognizer.prepare(waveforms, DECODING)
    ways: dict[str, list[list[int]] | None] = {"plain": None}
    measured: dict[str, list[tuple[float, float, float]]] = {}
    words: dict[str, list[list[int]]] = {}
    for _ in range(repeats):
        for way in ("plain", *(f"1 in {wrong} wrong" for wrong in WRONG)):
            if way not in ways:
                ways[way] = perturbed(words["plain"], int(way.split()[2]))
            cost.reset_peak_memory()
            (whole, decoding), found = timed(recognizer, batch, ways[way], DECODING)
            words[way] = [list(generated(t.tokens, recognizer.prompt)) for t in found]
            peak = (cost.peak_memory() or 0) / 2**20
            measured.setdefault(way, []).append((whole, decoding, peak))
    middle = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in measured.items()}
    for way, (whole, decoding, peak) in middle.items():
        same = sum(a == b for a, b in zip(words["plain"], words[way], strict=True))
        print(
            f"{label:24} {way:14} {whole:8.2f} {decoding:9.2f} {middle['plain'][0] / whole:6.2f} "
            f"{middle['plain'][1] / decoding:9.2f} {same:3}/{len(waveforms):<3} {peak:6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    in_worker(main)
