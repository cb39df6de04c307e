"""Does the analysis rank layers as their word errors do? Every layer alone at 2 bits, decoded, beside its divergence.

    python -m experiments.benchmarks.sensitivity_rank > experiments/benchmarks/sensitivity_rank.txt

The divergence is measured as `harness.analyze` does it, on 32 other utterances, and estimated as bits are allotted
(`backends.ptq._sensitivity`); the word errors are those of 252 clean and 252 other utterances of the embedded model.
"""

from __future__ import annotations

import copy
import time

import torch
from scipy.stats import spearmanr

from backends import quantize
from backends.ptq._sensitivity import expected_harm
from harness import datasets
from harness.analysis.analysis import analyse
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Calibration, Data, Decoding
from harness.metrics import Normaliser, count_errors
from harness.recognition.calibrating import calibration_inputs
from harness.recognition.loading import load_recognizer
from harness.recognition.models import Recognizer

BITS = 2
DECODING = Decoding(max_new_tokens=60)
BATCH = 126


def word_errors(recognizer: Recognizer, normalise: Normaliser) -> int:
    """Errors on every second utterance of both splits."""
    errors = 0
    for split in ("clean", "other"):
        speech = datasets.get("embedded").load(Data(dataset="embedded", split=split)).utterances[::2]
        for start in range(0, len(speech), BATCH):
            own = speech[start : start + BATCH]
            found = recognizer.transcribe([u.waveform() for u in own], DECODING)
            pairs = zip(own, found, strict=True)
            errors += sum(count_errors(normalise(u.text), normalise(h.text)).words.errors for u, h in pairs)
    return errors


def main() -> None:
    """Print the table and the rank correlations."""
    torch.set_num_threads(1)
    began = time.monotonic()
    recognizer, normalise = load_recognizer(MODEL_DIRECTORY, "float32", "cpu"), Normaliser()
    full = recognizer.model
    speech = Calibration(data=Data(dataset="embedded", split="calibration"), utterances=32)
    batches = calibration_inputs(recognizer, speech, DECODING)
    narrow = quantize(copy.deepcopy(full), "weight_only", "per_channel", BITS, backend="ptq", method="rtn")
    rows = {row["name"]: row for row in analyse(full, narrow.model, narrow.report, batches)["layers"]}
    changes = {
        name: [narrow.model.get_submodule(name).original_weight() - full.get_submodule(name).weight.detach()]
        for name in rows
    }
    estimated = dict(zip(rows, expected_harm(full, changes, batches)[:, 0].tolist(), strict=True))
    base = word_errors(recognizer, normalise)
    errors = {}
    print(f"every layer alone at {BITS} bits per channel (RTN); {base} errors in full precision\n")
    print(f"{'layer':45} {'errors':>6} {'divergence':>11} {'estimated':>10}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["divergence"]):
        original = full.get_submodule(name)
        full.set_submodule(name, narrow.model.get_submodule(name))
        errors[name] = word_errors(recognizer, normalise)
        full.set_submodule(name, original)
        print(f"{name:45} {errors[name]:6} {row['divergence']:11.4f} {estimated[name]:10.4f}", flush=True)
    names = list(rows)
    brute = [errors[name] for name in names]
    print()
    for what, values in (
        ("divergence, one layer at a time", [rows[name]["divergence"] for name in names]),
        ("second-order estimate", [estimated[name] for name in names]),
        ("relative weight error", [rows[name]["weight_error"] for name in names]),
    ):
        found = spearmanr(values, brute)
        print(f"rank correlation with word errors: {found.statistic:.2f} (p = {found.pvalue:.1g})  {what}")
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
