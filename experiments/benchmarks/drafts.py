"""What drafts save: one configuration per library, the same batches plainly and with drafts, in turns.

    python -m experiments.benchmarks.drafts > experiments/benchmarks/drafts.txt

Embedded model and speech, one thread. `decoding` is generation less the encoder, which drafts do not change; the
drafts are what full precision says. `auto` is what `decoding.strategy = "auto"` would take: two batches to find out
which way is faster, then that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from backends import quantize
from experiments.benchmarks._ways import gains, medians, one_round
from experiments.benchmarks._worker import in_worker
from harness import cost, datasets
from harness.cost.operations import generated
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Data, Decoding
from harness.recognition.loading import load_recognizer
from harness.resolution.batching import batch_plan, lengths_of

REPEATS = 5
BATCH, BATCHES = 50, 6
DECODING = Decoding(max_new_tokens=60)
CASES: Sequence[tuple[str, dict[str, Any]]] = (
    ("quanto int8, head tied", {"backend": "quanto", "granularity": "per_channel", "bits": 8}),
    (
        "quanto int8 with head",
        {"backend": "quanto", "granularity": "per_channel", "bits": 8, "modules": ["linear", "head"]},
    ),
    ("quanto fp8", {"backend": "quanto", "granularity": "per_channel", "bits": 8, "format": "fp8_e4m3"}),
    ("quanto int2 g64", {"backend": "quanto", "granularity": "per_group:64", "bits": 2}),
    ("hqq int8 g64", {"backend": "hqq", "granularity": "per_group:64", "bits": 8}),
    ("hqq int4 g64", {"backend": "hqq", "granularity": "per_group:64", "bits": 4}),
    ("hqq int3 g64", {"backend": "hqq", "granularity": "per_group:64", "bits": 3}),
    ("bitsandbytes nf4 g64", {"backend": "bitsandbytes", "granularity": "per_group:64", "bits": 4, "format": "nf4"}),
    ("ptq int4 g64", {"backend": "ptq", "granularity": "per_group:64", "bits": 4, "method": "rtn"}),
    ("ptq int3 g64", {"backend": "ptq", "granularity": "per_group:64", "bits": 3, "method": "rtn"}),
    (
        "ptq int2 g64, clip",
        {"backend": "ptq", "granularity": "per_group:64", "bits": 2, "method": "rtn", "options": {"clip": True}},
    ),
)


def planned(split: str, batches: int) -> list[list[Any]]:
    """Waveforms of the first batches' worth of utterances of a split, batched as a run would."""
    data = Data(dataset="embedded", split=split, limit=batches * BATCH)
    by_id = {u.id: u for u in datasets.get("embedded").load(data).utterances}
    return [[by_id[name].waveform() for name in names] for names in batch_plan(lengths_of(by_id.values()), BATCH)]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    machine = cost.environment(1, "")
    print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}")
    print(f"{BATCHES} batches of {BATCH} utterances (clean and other in turn), medians of {REPEATS} runs in turns\n")
    full = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    batches = [
        full.prepare(waveforms, DECODING)
        for pair in zip(planned("clean", BATCHES // 2), planned("other", BATCHES // 2), strict=True)
        for waveforms in pair
    ]
    said = [full.transcribe(batch, DECODING) for batch in batches]
    drafts = [[generated(t.tokens, full.prompt) for t in batch] for batch in said]
    print(
        f"{'configuration':24} {'plain, s':>8} {'decoding':>9} {'draft, s':>9} {'decoding':>9} "
        f"{'whole':>6} {'decoding':>9} {'auto':>6}  {'same':>8} {'as fp32':>8}"
    )
    for label, arguments in CASES:
        recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
        recognizer.model = quantize(recognizer.model, "weight_only", **arguments).model
        recognizer.transcribe(batches[-1], DECODING)
        rounds = [one_round(recognizer, batches, drafts, DECODING) for _ in range(REPEATS)]
        texts, ratio = rounds[-1].texts, gains(rounds, "draft")
        plain, draft = medians(rounds, "plain"), medians(rounds, "draft")
        same = sum(a == b for a, b in zip(texts["plain"], texts["draft"], strict=True))
        as_full = sum(a == t.text for a, t in zip(texts["plain"], [t for batch in said for t in batch], strict=True))
        print(
            f"{label:24} {plain[0]:8.2f} {plain[1]:9.2f} {draft[0]:9.2f} {draft[1]:9.2f} "
            f"{ratio[0]:6.2f} {ratio[1]:9.2f} {gains(rounds, 'auto')[0]:6.2f}"
            f"  {same:4}/{len(texts['plain'])} {as_full:4}/{len(texts['plain'])}",
            flush=True,
        )


if __name__ == "__main__":
    in_worker(main)
