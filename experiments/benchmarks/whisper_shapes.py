"""What drafts save on models of published shapes: whisper-tiny and whisper-small, on real recordings.

    python -m experiments.benchmarks.whisper_shapes SPEECH > experiments/benchmarks/whisper_shapes.txt

SPEECH is a directory in the tree of LibriSpeech. The weights are random (see `_shapes`), so what is said means
nothing, and every utterance is as long as the cap: 40 tokens, about ten seconds of read speech. Drafts come from a
perturbed copy: the model's own words with one token in `WRONG` replaced. One thread, float32; both ways in turns;
`decoding` is generation less the encoder. Memory is the process's peak while it decodes.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, WhisperFeatureExtractor, WhisperProcessor

from backends import quantize
from experiments.benchmarks._shapes import whisper
from experiments.benchmarks.drafts import Clock
from harness import cost, datasets
from harness.config import Data, Decoding
from harness.cost.operations import generated
from harness.embedded import MODEL_DIRECTORY
from harness.families import FAMILIES
from harness.models import Recognizer

TOKENS = 40
DECODING = Decoding(max_new_tokens=TOKENS)
WRONG = 40
"""One token in so many of a draft is wrong: 37 % of the utterances have none."""
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
    """A model of that shape with a processor for windows of 30 s."""
    tokenizer = AutoProcessor.from_pretrained(MODEL_DIRECTORY).tokenizer
    return Recognizer(whisper(size), WhisperProcessor(WhisperFeatureExtractor(), tokenizer), FAMILIES["whisper"])


def perturbed(said: Sequence[Sequence[int]], rng: np.random.Generator) -> list[list[int]]:
    """Drafts that are wrong in one token of `WRONG`."""
    return [[int(rng.integers(3, 500)) if rng.random() < 1 / WRONG else token for token in row] for row in said]


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
            f"{'configuration':24} {'plain, s':>8} {'decoding':>9} {'draft, s':>9} {'decoding':>9} "
            f"{'whole':>6} {'decoding':>9}  {'same':>6} {'plain MiB':>9} {'draft MiB':>9}"
        )
        waveforms = [u.waveform() for u in speech[:: len(speech) // utterances][:utterances]]
        for label, arguments in CASES:
            recognizer = recognizer_of(size)
            if arguments is not None:
                recognizer.model = quantize(recognizer.model, "weight_only", **arguments).model
            batch = recognizer.prepare(waveforms, DECODING)
            clock = Clock(recognizer.model)
            measured: dict[str, list[tuple[float, float, float]]] = {"plain": [], "draft": []}
            words: dict[str, Any] = {}
            drafts = None
            for _ in range(repeats):
                for way in ("plain", "draft"):
                    cost.reset_peak_memory()
                    encoder, decode = clock.seconds, recognizer.decode_seconds
                    heard = recognizer.transcribe(batch, DECODING, drafts if way == "draft" else None)
                    whole = recognizer.decode_seconds - decode
                    words[way] = [generated(t.tokens, recognizer.prompt) for t in heard]
                    measured[way].append((whole, whole - (clock.seconds - encoder), (cost.peak_memory() or 0) / 2**20))
                    drafts = drafts or perturbed(words["plain"], np.random.default_rng(0))
            plain, draft = ([statistics.median(c) for c in zip(*measured[w], strict=True)] for w in measured)
            same = sum(a == b for a, b in zip(words["plain"], words["draft"], strict=True))
            print(
                f"{label:24} {plain[0]:8.2f} {plain[1]:9.2f} {draft[0]:9.2f} {draft[1]:9.2f} "
                f"{plain[0] / draft[0]:6.2f} {plain[1] / draft[1]:9.2f}  {same:3}/{utterances:2} "
                f"{plain[2]:9.0f} {draft[2]:9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
