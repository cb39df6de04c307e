"""How a run grows: with utterances, cells and workers; and what memory it needs for more speech.

    python -m experiments.benchmarks.growth > experiments/benchmarks/growth.txt

Embedded model and speech, HQQ int4 beside full precision, every run a fresh `harness.grid` with one thread for each
worker. Peak memory is the largest of any worker's; wall time includes starting up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import cost
from harness.records.store import StoredRun

_HEADER = """name = "growth"
model = "embedded"
data = [{ dataset = "embedded", split = "clean", limit = %d }, { dataset = "embedded", split = "other", limit = %d }]
decoding = { batch_size = %d, max_new_tokens = 60 }
run = { device = "cpu", workers = %d }
"""
_BLOCK = """
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = %s
"""


def run(utterances: int, bits: list[int], workers: int, batch_size: int = 50) -> None:
    """One row: a grid of so many utterances a split, and so many widths beside full precision."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "growth.toml"
        file.write_text(_HEADER % (utterances, utterances, batch_size, workers) + _BLOCK % bits)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "harness.grid", file, "--out", scratch], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - began
        rows = StoredRun(Path(scratch) / "growth").results()
    peak = max(row["peak_rss_bytes"] for row in rows) / 2**20
    total = len(rows) * utterances
    print(
        f"{utterances:10} {len(rows):6} {workers:8} {seconds:8.1f} {1000 * seconds / total:14.2f} {peak:10.0f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    cores = len(os.sched_getaffinity(0))
    print(f"{cost.environment(1, '')['processor']}, {cores} cores\n")
    print(f"{'utt./split':>10} {'cells':>6} {'workers':>8} {'wall, s':>8} {'ms/utterance':>14} {'peak, MiB':>10}")
    for utterances in (63, 126, 252, 504):
        run(utterances, [4], workers=1)
    print()
    for widths in ([8], [8, 4], [8, 4, 3, 2]):
        run(126, widths, workers=1)
    print()
    for workers in range(1, cores + 1):
        run(252, [8, 4, 3], workers=workers)


if __name__ == "__main__":
    main()
