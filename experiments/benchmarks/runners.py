"""What it costs to let several runners share the work of one directory, beside one runner with as many workers.

    python -m experiments.benchmarks.runners experiments/embedded.toml 4 3 > experiments/benchmarks/runners.txt
    python -m experiments.benchmarks.runners experiments/embedded.toml 2 1 >> experiments/benchmarks/runners.txt

An experiment by one runner with four workers and by four runners with a worker each, three times, now the one first
and now the other; with the same number of processes, since these slow each other down whoever started them.
Processor time is that of all processes, starts included; how often everything was done is read from what the runners
print.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness import cost


def processor_seconds() -> float:
    """Of all processes that were started here and are over."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def together(file: str, runners: int, workers: int, out: Path) -> tuple[float, float, Counter[str]]:
    """Wall and processor seconds of so many runners, and how often every configuration was done."""
    began, used = time.monotonic(), processor_seconds()
    command = [sys.executable, "-m", "harness.grid", file, "--workers", str(workers), "--out", str(out)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(runners)]
    said = [process.communicate()[0] for process in started]
    wall = time.monotonic() - began
    if any(process.returncode for process in started):
        raise SystemExit("a runner failed; what it says is above")
    while True:
        try:
            os.wait()  # fork servers, which outlive their runners for a moment
        except ChildProcessError:
            break
    done = Counter(label for text in said for label in re.findall(r" s  (.+): done in", text))
    return wall, processor_seconds() - used, done


def main() -> None:
    """Print every run, and the ratio of the medians."""
    file, processes, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    adopt_orphans = 36
    ctypes.CDLL(None).prctl(adopt_orphans, 1)
    machine = f"{cost.environment(1, '')['processor']}, {os.cpu_count()} cores"
    print(f"{file}: {machine}, load {os.getloadavg()[0]:.1f} at the start\n")
    columns = ("runners", "workers", "wall, s", "processor, s", "done", "done twice")
    print(" ".join(f"{column:>13}" for column in columns))
    ways = [(1, processes), (processes, 1)]
    seconds: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in ways[:: -1 if repeat % 2 else 1]:
            with tempfile.TemporaryDirectory() as out:
                wall, used, done = together(file, *way, Path(out))
            seconds[way].append(used)
            twice = sum(count > 1 for count in done.values())
            row = (*way, f"{wall:.0f}", f"{used:.0f}", len(done), twice)
            print(" ".join(f"{value:>13}" for value in row), flush=True)
    by_one, by_many = (statistics.median(seconds[way]) for way in ways)
    print(f"{processes} runners, medians: {by_many / by_one:.3f} of the processor time of one\n", flush=True)


if __name__ == "__main__":
    main()
