"""Do the intervals cover, and does the family of tests keep its promise? 2 000 synthetic studies of each kind.

    python -m experiments.benchmarks.interval_coverage > experiments/benchmarks/interval_coverage.txt

Speakers differ in how hard they are and in how much quantization costs them, so utterances of one
speaker are not independent. What is tested is what the reports use: `harness.stats.difference` and Holm.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from harness.stats import MARGIN, difference
from harness.stats.resampling import sign_flip_p

STUDIES = 2000
RESAMPLES = 1999
UTTERANCES = 21
WORDS = 9
HARDNESS = math.log(0.08), 0.6
"""Of the speakers' error rates under full precision: median, as a logarithm, and standard deviation of that.
Between the speakers of LibriSpeech the deviation is .4 to .5 for the published transcripts of one recogniser."""
SPREAD = 0.25
"""Standard deviation, between speakers, of the logarithm of the cells' error rate over the baseline's; for those
transcripts against each other .1 to .2, chance included."""
SHARED = 0.8
"""Share of the baseline's errors that a cell makes too, so that the two are paired."""
CELLS = 18
COST = 0.1

BASE = math.exp(HARDNESS[0] + HARDNESS[1] ** 2 / 2)
Counts = NDArray[np.int64]


def study(rng: np.random.Generator, speakers: int, cost: float, cells: int) -> tuple[Counts, Counts, Counts]:
    """Words (speakers, utterances), errors of the baseline, and errors of the cells (cells, speakers, utterances).

    `cost` is the true relative increase in errors. Speakers have between half and three halves of the
    usual number of utterances; absent ones have no words.
    """
    counts = rng.integers(UTTERANCES // 2, UTTERANCES * 3 // 2 + 1, speakers)
    present = np.arange(UTTERANCES * 3 // 2) < counts[:, None]
    words = rng.integers(WORDS - 3, WORDS + 4, present.shape) * present
    expected = words * rng.lognormal(*HARDNESS, speakers)[:, None] * rng.gamma(2.0, 0.5, present.shape)
    baseline = rng.poisson(expected)
    ratio = rng.lognormal(math.log(1 + cost) - SPREAD**2 / 2, SPREAD, (cells, speakers, 1))
    kept = SHARED * np.minimum(ratio, 1)
    return words, baseline, rng.binomial(baseline, kept) + rng.poisson(expected * (ratio - kept))


def blocks(errors: Counts, words: Counts, *, by_speaker: bool) -> Counts:
    """Errors and words, (blocks, 2)."""
    if by_speaker:
        return np.stack([errors.sum(1), words.sum(1)], axis=1)
    present = words > 0
    return np.stack([errors[present], words[present]], axis=1)


def coverage(speakers: int, *, by_speaker: bool) -> tuple[float, float]:
    """Shares of studies whose interval has the true cost in it: in points, and relative to full precision."""
    rng = np.random.default_rng(speakers)
    absolute = relative = 0
    for _ in range(STUDIES):
        words, baseline, cells = study(rng, speakers, COST, 1)
        a, b = (blocks(errors, words, by_speaker=by_speaker) for errors in (cells[0], baseline))
        found = difference(a, b, RESAMPLES, draws=0)
        absolute += found.low <= BASE * COST <= found.high
        relative += found.relative_low <= COST <= found.relative_high
    return absolute / STUDIES, relative / STUDIES


def false_verdicts(speakers: int) -> float:
    """Share of studies that call a cell as good that costs exactly the margin; 2.5 % would be nominal."""
    rng = np.random.default_rng(2000 + speakers)
    wrong = 0
    for _ in range(STUDIES):
        words, baseline, cells = study(rng, speakers, MARGIN, 1)
        a, b = (blocks(errors, words, by_speaker=True) for errors in (cells[0], baseline))
        wrong += difference(a, b, RESAMPLES, draws=0).non_inferior
    return wrong / STUDIES


def family_wise_error(speakers: int, *, by_speaker: bool) -> float:
    """Share of studies in which any of the cells, none of which costs anything, is called different."""
    rng = np.random.default_rng(1000 + speakers)
    wrong = 0
    for _ in range(STUDIES):
        words, baseline, cells = study(rng, speakers, 0.0, CELLS)
        gaps = [blocks(c - baseline, words, by_speaker=by_speaker)[:, 0] for c in cells]
        p_values = [sign_flip_p(gap, RESAMPLES) for gap in gaps]
        wrong += bool(multipletests(p_values, method="holm")[0].any())
    return wrong / STUDIES


def main() -> None:
    """Print the table."""
    began = time.monotonic()
    print(f"{STUDIES} studies a line, {RESAMPLES} resamples; about {UTTERANCES} utterances of {WORDS} words a speaker;")
    print(f"full precision has {BASE:.1%} WER; the true cost is {BASE * COST:.2%}, and differs between speakers")
    print(f"(a share of 95 % has a standard error of {math.sqrt(0.95 * 0.05 / STUDIES):.1%})\n")
    for speakers in (10, 20, 24, 40):
        for unit in ("speaker", "utterance"):
            points, change = coverage(speakers, by_speaker=unit == "speaker")
            what = f"{speakers} speakers, resampled by {unit:9}"
            print(f"{what}: 95 % intervals cover {points:.1%} (difference) and {change:.1%} (relative)", flush=True)
    print()
    for speakers in (10, 20, 40):
        share = false_verdicts(speakers)
        print(
            f"{speakers} speakers, a cell that costs exactly {MARGIN:.0%} more errors: called as good in {share:.1%}",
            flush=True,
        )
    print()
    for unit in ("speaker", "utterance"):
        share = family_wise_error(20, by_speaker=unit == "speaker")
        print(
            f"20 speakers, {CELLS} cells without cost, signs flipped by {unit:9}: any called different in {share:.1%}"
        )
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
