"""CTranslate2 beside torch on the same weights and speech: plain decoding, decoding with drafts, and the engine.

    python -m experiments.benchmarks.ctranslate2 > experiments/benchmarks/ctranslate2.txt

Embedded model and speech, one thread, every batch by every configuration in turn. Seconds are those that the process
computed, not those that passed, so that what else runs on the machine counts less; features are computed before.
A ratio is taken in each repetition before the median. Drafts are what full precision says: for full precision itself
they are its own words, the most that drafts can save.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from backends import quantize, versions
from harness import cost, datasets
from harness.cost.operations import generated
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Data, Decoding
from harness.recognition.features import PreparedBatch
from harness.recognition.loading import load_recognizer
from harness.recognition.models import Recognizer, Transcript

REPEATS = 5
BATCH, BATCHES = 50, 6
DECODING = Decoding(max_new_tokens=60)
WHOLE = {"backend": "ctranslate2", "modules": ["linear", "head", "embedding", "conv"]}
QUANTO = {"scheme": "weight_only", "granularity": "per_channel", "bits": 8, "backend": "quanto"}
CASES: Mapping[str, Mapping[str, Any]] = {
    "torch fp32": {},
    "quanto int8": QUANTO,
    "quanto int8 with head": {**QUANTO, "modules": ["linear", "head"]},
    "ctranslate2 fp32": {**WHOLE, "scheme": "none", "granularity": "per_tensor", "bits": 32, "format": "fp32"},
    "ctranslate2 int8": {**WHOLE, "scheme": "dynamic", "granularity": "per_channel", "bits": 8},
    "ctranslate2 int16": {**WHOLE, "scheme": "dynamic", "granularity": "per_tensor", "bits": 16},
}
BASE = "torch fp32, plain"
Said = list[Transcript]


def computed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of all threads of the process, and what came of it."""
    began = time.process_time()
    result = action()
    return time.process_time() - began, result


def encoder_of(recognizer: Recognizer) -> Callable[[Any], Any]:
    """What turns features into states, in torch or in the engine."""
    encoder: Callable[[Any], Any] = (
        recognizer.model.encode if recognizer.inside is None else recognizer.model.get_encoder()
    )
    return encoder


def ways(recognizers: Mapping[str, Recognizer]) -> dict[str, tuple[Recognizer, bool]]:
    """Every row of the table: its recogniser, and whether it is given drafts."""
    rows = {}
    for label, recognizer in recognizers.items():
        if recognizer.inside is None:
            rows[label] = recognizer, False
        else:
            rows[f"{label}, plain"], rows[f"{label}, drafts"] = (recognizer, False), (recognizer, True)
    return rows


@torch.no_grad()
def repetition(
    rows: Mapping[str, tuple[Recognizer, bool]], batches: Sequence[PreparedBatch], drafts: Sequence[Any]
) -> dict[str, tuple[float, float, Said]]:
    """Seconds of the whole and of the encoder, and the transcripts, by row."""
    whole, encoder = dict.fromkeys(rows, 0.0), dict.fromkeys(rows, 0.0)
    said: dict[str, Said] = {label: [] for label in rows}
    for batch, own in zip(batches, drafts, strict=True):
        features = batch.groups[0].inputs["input_features"]
        for label, (recognizer, drafted) in rows.items():
            given = own if drafted else None
            seconds, found = computed(lambda r=recognizer, b=batch, d=given: r.transcribe(b, DECODING, d))
            whole[label] += seconds
            said[label] += found
            encoder[label] += computed(lambda r=recognizer, f=features: encoder_of(r)(f))[0]
    return {label: (whole[label], encoder[label], said[label]) for label in rows}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    machine = cost.environment(1, "")
    engine = versions("ctranslate2")["ctranslate2"]
    print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}, ctranslate2 {engine}")
    print(f"{BATCHES} batches of {BATCH} utterances (clean and other in turn), medians of {REPEATS} runs in turns")
    print(f"load average at the start: {os.getloadavg()[0]:.1f}\n")
    recognizers = {}
    for label, asked in CASES.items():
        recognizers[label] = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
        if asked:
            recognizers[label].model = quantize(recognizers[label].model, **asked).model
    full = recognizers["torch fp32"]
    speech = [datasets.get("embedded").load(Data(dataset="embedded", split=s)).utterances for s in ("clean", "other")]
    waveforms = [[u.waveform() for u in speech[i % 2][i // 2 * BATCH :][:BATCH]] for i in range(BATCHES)]
    batches = [full.prepare(batch, DECODING) for batch in waveforms]
    drafts = [[generated(t.tokens, full.prompt) for t in full.transcribe(batch, DECODING)] for batch in batches]
    rows = ways(recognizers)
    repetition(rows, batches[:1], drafts[:1])
    runs = [repetition(rows, batches, drafts) for _ in range(REPEATS)]
    print(f"{'configuration':31} {'whole, s':>8} {'encoder':>8} {'of fp32':>8} {'encoder':>8}  {'as fp32':>8}")
    for label in rows:
        seconds = [statistics.median(run[label][place] for run in runs) for place in (0, 1)]
        ratios = [statistics.median(run[label][place] / run[BASE][place] for run in runs) for place in (0, 1)]
        pairs = zip(runs[-1][label][2], runs[-1][BASE][2], strict=True)
        same = sum(own.text == theirs.text for own, theirs in pairs)
        numbers = " ".join(f"{number:8.2f}" for number in (*seconds, *ratios))
        print(f"{label:31} {numbers}  {same:4}/{BATCH * BATCHES}")


if __name__ == "__main__":
    main()
