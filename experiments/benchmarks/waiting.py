"""How long workers wait for the baseline's cell, and how long they have nothing left to do.

    python -m experiments.benchmarks.waiting EXPERIMENT WORKERS [KEY=VALUE ...] > experiments/benchmarks/waiting.txt

Runs an experiment in a new directory, with changes as `--set` takes them. While the baseline is decoded, free workers
begin what takes no drafts, batch after batch behind it, and then quantize others up to decoding. `waited` is what
workers spent with nothing but waiting for the baseline, `left` what they spent without work at the end, both as shares
of the time of all workers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import cost

_ENDED = re.compile(r"^\[\d+/\d+\] +(\d+) s  (.+): done in (\d+) s$", re.MULTILINE)


def run(file: str, workers: int, changes: list[str], out: Path) -> tuple[str, float]:
    """What the grid printed, and the seconds that its workers waited."""
    sets = [argument for change in changes for argument in ("--set", change)]
    command = [sys.executable, "-m", "harness.grid", file, "--workers", str(workers), "--out", str(out), *sets]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*/cells/*/cell.json")]
    return printed, sum(cell["measured"]["waited_seconds"] for cell in cells)


def main() -> None:
    """Print a row for every task, and the two shares."""
    file, workers, *changes = sys.argv[1:]
    machine = f"{cost.environment(1, '')['processor']}, {os.cpu_count()} cores"
    print(f"{file} {' '.join(c for c in changes if 'path' not in c and 'root' not in c)}: {workers} workers, {machine}")
    print(f"load {os.getloadavg()[0]:.1f} at the start\n")
    with tempfile.TemporaryDirectory() as out:
        printed, waited = run(file, int(workers), changes, Path(out))
    ended = [(int(at), label, int(took)) for at, label, took in _ENDED.findall(printed)]
    for at, label, took in ended:
        print(f"{at - took:6} to {at:6} s  {label}")
    last, first = max(at for at, _, _ in ended), min(at - took for at, _, took in ended)
    whole = int(workers) * (last - first)
    left = whole - sum(took for _, _, took in ended)
    print(f"\nwaited {waited:.0f} s, {waited / whole:.1%}; left {left:.0f} s, {left / whole:.1%} (of {whole:.0f} s)")


if __name__ == "__main__":
    main()
