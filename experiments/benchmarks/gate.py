"""How often the gate fails a change that does no harm: studies made of the utterances of a published run.

    python -m experiments.benchmarks.gate RUN [STUDIES] > experiments/benchmarks/gate.txt

A study has every quantized cell of one split. Of every utterance either the run or the baseline, by a fair coin, has
the transcript of the cell, and the other one that of full precision: the two differ wherever quantization changed
something, and neither is better. The limit is 0 points, at which a gate fails most easily.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from harness.records.reading import open_run, study_of
from harness.report.gate._judged import Verdict, _decided, _Tested
from harness.stats import Sample
from harness.stats.claims import Direction, difference_of

CATASTROPHE = 0.3
NAMELESS = {"configuration": "", "split": ""}


def main() -> None:
    """Print the share of studies in which at least one check fails."""
    path, studies = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    study = study_of(open_run(path))
    rng = np.random.default_rng(0)
    for split in dict.fromkeys(row["split"] for row in study.scored):
        rows = [row for row in study.scored if row["split"] == split and row["wer"] < CATASTROPHE]
        baseline = next(study.sample(row["cell_id"]) for row in rows if row["backend"] == "none")
        cells = [study.sample(row["cell_id"]) for row in rows if row["scheme"] != "none"]
        verdicts = [_verdicts(cells, baseline, rng) for _ in range(studies)]
        failing = np.mean([Verdict.FAIL in own for own in verdicts])
        print(
            f"{path.name} {split}: {len(cells)} cells, {len(baseline.block_names)} speakers, {studies} studies: "
            f"{failing:.1%} have a check that fails"
        )


def _verdicts(cells: list[Sample], baseline: Sample, rng: np.random.Generator) -> list[Verdict]:
    found = []
    for cell in cells:
        pairs = list(zip(cell.utterances, baseline.utterances, strict=True))
        coins = rng.integers(2, size=len(pairs))
        sides = [Sample(tuple(pair[c ^ side] for pair, c in zip(pairs, coins, strict=True))) for side in (0, 1)]
        found.append(_Tested("wer", NAMELESS, difference_of(sides[0], sides[1], 0.0, Direction.BELOW), 0.0, ""))
    return [_decided(each, len(found)).verdict for each in found]


if __name__ == "__main__":
    main()
