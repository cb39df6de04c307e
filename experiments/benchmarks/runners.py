"""What it costs to let several runners share the work of one directory, beside one runner with as many workers.

    python -m experiments.benchmarks.runners experiments/embedded.toml 4 2 > experiments/benchmarks/runners.txt

An experiment by one runner with four workers and by four runners with a worker each, at the same time, so that both
meet the same moods of the machine: run one after the other, either takes 6 % more or less from one hour to the next.
Processor time is that of all processes, starts included; how often everything was done is read from what the runners
print.
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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from harness import cost


def processor_seconds() -> float:
    """Of all processes that were started here and are over."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def together(file: str, runners: int, workers: int) -> tuple[float, float, Counter[str]]:
    """Wall and processor seconds of so many runners, and how often every configuration was done."""
    adopt_orphans = 36
    ctypes.CDLL(None).prctl(adopt_orphans, 1)
    with tempfile.TemporaryDirectory() as out:
        return _together(file, runners, workers, Path(out))


def _together(file: str, runners: int, workers: int, out: Path) -> tuple[float, float, Counter[str]]:
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
    """Print two rows for every number of processes."""
    file, *counts = sys.argv[1:]
    machine = f"{cost.environment(1, '')['processor']}, {os.cpu_count()} cores"
    print(f"{file}: {machine}, load {os.getloadavg()[0]:.1f} at the start\n")
    columns = ("runners", "workers", "wall, s", "processor, s", "to one runner", "done", "done twice")
    print(" ".join(f"{column:>13}" for column in columns), flush=True)
    for processes in map(int, counts):
        ways = [(1, processes), (processes, 1)]
        with ProcessPoolExecutor(max_workers=2, max_tasks_per_child=1, mp_context=get_context("spawn")) as side_by_side:
            found = [side_by_side.submit(together, file, *way) for way in ways]
        _, by_one, _ = found[0].result()
        for way, (wall, used, done) in zip(ways, (future.result() for future in found), strict=True):
            twice = sum(count > 1 for count in done.values())
            row = (*way, f"{wall:.0f}", f"{used:.0f}", f"{used / by_one:.3f}", len(done), twice)
            print(" ".join(f"{value:>13}" for value in row), flush=True)


if __name__ == "__main__":
    main()
