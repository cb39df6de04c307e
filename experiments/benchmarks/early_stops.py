"""Whether early stops are right, and what they save: studies resampled from published utterances.

    python -m experiments.benchmarks.early_stops RUN > experiments/benchmarks/early_stops.txt

A study is a split with its speakers drawn with replacement, in a random order; its cells are those of the run.
*Within the limit* is a cell whose difference over the whole study is. The second limit is the hardest for each cell:
its own difference, so that it is *just within*. Costs are for the published speakers in random orders, looked at after
every block of whole speakers that fills two batches; what an utterance and a token cost is fitted to the cells whose
seconds were kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from harness.records.reading import RecordedRun, open_run
from harness.resolution.batching import speaker_plan
from harness.stats.sequential import Drawn

STUDIES = 2000
ORDERS = 100
WORSE_BY = 0.10
BATCH = 16


def counts(run: RecordedRun, cell_id: str) -> dict[str, np.ndarray]:
    """Errors, words, utterances and tokens by speaker."""
    found: dict[str, np.ndarray] = {}
    for row in run.utterances(cell_id):
        errors = row["substitutions"] + row["deletions"] + row["insertions"]
        found.setdefault(row["speaker"], np.zeros(4))
        found[row["speaker"]] += (errors, row["reference_words"], 1, len(row["tokens"]))
    return found


def wrongly_stopped(split: Mapping[str, Any], rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """Shares of the studies in which a cell within the limit is stopped: at `WORSE_BY`, and at its own difference."""
    base, cells = split["base"], split["cells"]
    stopped, within, just = np.zeros(len(cells)), np.zeros(len(cells)), np.zeros(len(cells))
    for _ in range(STUDIES):
        drawn = rng.integers(len(base), size=len(base))
        errors, words = base[drawn, 0], base[drawn, 1]
        for i, cell in enumerate(cells):
            own = cell[drawn, 0]
            difference = (own - errors).sum() / words.sum()
            if difference <= WORSE_BY:
                within[i] += 1
                stopped[i] += Drawn(errors, words, WORSE_BY).is_worse(own)
            just[i] += Drawn(errors, words, max(difference, 0.0) + 1e-12).is_worse(own)
    return [s / w for s, w in zip(stopped, within, strict=True) if w], list(just / STUDIES)


def shares(split: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
    """The mean share of the utterances that each cell transcribes, over random orders."""
    base = split["base"]
    found = np.zeros((ORDERS, len(split["cells"])))
    for order in range(ORDERS):
        drawn = rng.permutation(len(base))
        names = [[f"{i}-{j}" for j in range(int(base[i, 2]))] for i in drawn]
        ends, done = _blocks(names), 0
        for i, cell in enumerate(split["cells"]):
            test = Drawn(base[drawn, 0], base[drawn, 1], WORSE_BY)
            done = next((end for end in ends if test.is_worse(cell[drawn[:end], 0])), len(drawn))
            found[order, i] = (cell[drawn[:done]] @ split["price"]).sum() / (cell @ split["price"]).sum()
    return found.mean(0)


def price(rows: Sequence[Mapping[str, Any]], tables: Mapping[str, np.ndarray]) -> np.ndarray:
    """Seconds of an utterance and of a token, (4,) with zeros before: least squares over the cells that kept theirs."""
    known = [row for row in rows if row["compute_seconds"]]
    totals = np.array([tables[row["cell_id"]].sum(0)[2:] for row in known])
    found = optimize.nnls(totals, np.array([row["compute_seconds"] for row in known]))[0]
    return np.array([0, 0, *found])


def _blocks(speakers: list[list[str]]) -> list[int]:
    """After how many speakers the run looks."""
    lengths = {name: 1.0 for own in speakers for name in own}
    batches, seen, ends = speaker_plan(speakers, lengths, BATCH), set[str](), []
    for batch in batches:
        seen |= set(batch)
        whole = next((i for i, own in enumerate(speakers) if not seen.issuperset(own)), len(speakers))
        ends.append(whole)
    return sorted(set(ends) - {0})


def main() -> None:
    """Print the two tables."""
    run = open_run(Path(sys.argv[1]))
    rows = [row for row in run.results() if row["status"] == "done"]
    rng = np.random.default_rng(0)
    spent = whole = 0.0
    print(f"{sys.argv[1]}, {STUDIES} studies, limit {100 * WORSE_BY:g} points")
    for label in dict.fromkeys(row["split"] for row in rows):
        own = [row for row in rows if row["split"] == label]
        by_speaker = {row["cell_id"]: counts(run, row["cell_id"]) for row in own}
        baseline = next(row for row in own if row["backend"] == "none")
        names = sorted(by_speaker[baseline["cell_id"]])
        tables = {cell: np.array([found[name] for name in names]) for cell, found in by_speaker.items()}
        others = [row for row in own if row["backend"] != "none"]
        per = price(own, tables)
        split = {"base": tables[baseline["cell_id"]], "cells": [tables[row["cell_id"]] for row in others], "price": per}
        stopped, just = wrongly_stopped(split, rng)
        print(f"\n{label}: {len(names)} speakers, {len(others)} cells")
        print(f"  within the limit and stopped: at most {max(stopped):.2%}, on average {np.mean(stopped):.2%}")
        print(f"  just within and stopped:      at most {max(just):.2%}, on average {np.mean(just):.2%}")
        kept = shares(split, rng)
        for row, share in zip(others, kept, strict=True):
            if share < 0.9995:
                print(f"  {share:6.1%} of {row['configuration']} ({100 * row['difference']:+.1f} points)")
        seconds = [float((tables[row["cell_id"]] @ per).sum()) for row in (baseline, *others)]
        spent += seconds[0] + float(np.dot(seconds[1:], kept))
        whole += sum(seconds)
        print(f"  an utterance costs {per[2]:.2f} s and a token {1000 * per[3]:.1f} ms")
    print(f"\nthe study takes {spent / whole:.1%} of its time without stops ({spent:.0f} of {whole:.0f} s of one core)")


if __name__ == "__main__":
    main()
