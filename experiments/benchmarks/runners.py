"""What it costs to let several runners share the work of one directory, beside one runner.

    python -m experiments.benchmarks.runners > experiments/benchmarks/runners.txt

The embedded grid by one, two and four runners with a worker each, in turn. Processor time is that of all processes,
starts included; whether every configuration was done exactly once is read from what the runners print.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness import cost

RUNNERS = (1, 2, 4)
COMMAND = [sys.executable, "-m", "harness.grid", "experiments/embedded.toml", "--workers", "1", "--out"]


def processor_seconds() -> float:
    """Of all processes that were started here and are over."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def together(runners: int, out: Path) -> tuple[float, float, Counter[str]]:
    """Wall and processor seconds of so many runners, and how often every configuration was done."""
    began, used = time.monotonic(), processor_seconds()
    started = [subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.PIPE, text=True) for _ in range(runners)]
    said = [process.communicate()[0] for process in started]
    wall = time.monotonic() - began
    while True:
        try:
            os.wait()  # fork servers, which outlive their runners for a moment
        except ChildProcessError:
            break
    done = Counter(label for text in said for label in re.findall(r" s  (.+): done in", text))
    return wall, processor_seconds() - used, done


def main() -> None:
    """Print a row for every number of runners."""
    adopt_orphans = 36
    ctypes.CDLL(None).prctl(adopt_orphans, 1)
    print(
        f"{cost.environment(1, '')['processor']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n"
    )
    print(f"{'runners':>7} {'wall, s':>8} {'processor, s':>13} {'to one':>7} {'configurations':>15} {'done twice':>11}")
    alone = 0.0
    for runners in RUNNERS:
        with tempfile.TemporaryDirectory() as out:
            wall, used, done = together(runners, Path(out))
        alone = alone or used
        twice = sum(count > 1 for count in done.values())
        print(f"{runners:7} {wall:8.0f} {used:13.0f} {used / alone:7.3f} {len(done):15} {twice:11}", flush=True)


if __name__ == "__main__":
    main()
