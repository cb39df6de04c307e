"""Runs of a small grid that are disturbed on purpose, and what an undisturbed one came to; for `faults`."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from harness.records.files import is_temporary
from harness.records.results import MEASURED
from harness.records.store import StoredRun

EXPERIMENT = """
name = "faults"
model = "embedded"
data = [{ dataset = "embedded", split = "clean", limit = 6 }, { dataset = "embedded", split = "other", limit = 4 }]
decoding = { batch_size = 2, max_new_tokens = 40 }
run = { device = "cpu", workers = 2, stall_timeout = 15, lease_timeout = 6 }
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = 4
"""
MARK = "ASRQUANT_FAULT_CAMPAIGN"
"""In the environment of every process of a campaign, which children inherit."""
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
UNSTEADY = set(MEASURED)
"""Columns that differ from run to run: seconds and bytes."""


class Campaign:
    """Runs of one experiment in one directory, and what an undisturbed one came to."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        self.file, self.temporary = root / "faults.toml", root / "tmp"
        self.file.write_text(EXPERIMENT)
        self.temporary.mkdir()
        self.out = root / "out"
        began = time.monotonic()
        assert self.finish() == 0
        self.seconds = time.monotonic() - began
        self.undisturbed = self.fingerprint()
        self.whole = root / "whole"
        self.out.rename(self.whole)

    @property
    def run(self) -> Path:
        return self.out / "faults"

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """The grid's command in a session of its own."""
        command = [sys.executable, "-m", "harness.grid", str(self.file), "--out", str(self.out), "--retry"]
        own = {**os.environ, MARK: str(self.root), "TMPDIR": str(self.temporary), **environment}
        return subprocess.Popen(
            command,
            env=own,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def finish(self) -> int:
        """Run to the end; the exit status."""
        process = self.start()
        self.said, _ = process.communicate(timeout=300)
        return process.returncode

    def fingerprint(self) -> str:
        """Hash of every transcript, count and statistic."""
        stored = StoredRun(self.run)
        rows = [{k: v for k, v in row.items() if k not in UNSTEADY} for row in stored.results()]
        found = [stored.utterances(row["cell_id"]) for row in rows]
        return hashlib.sha256(json.dumps([rows, found], sort_keys=True).encode()).hexdigest()

    def processes(self) -> dict[int, str]:
        """Command lines of the campaign's living processes by their ids."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.root}".encode() in (path / "environ").read_bytes():
                    state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z":
                        found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return found

    def leftovers(self) -> list[str]:
        """Temporary files that are still there."""
        inside = [str(path) for path in self.run.rglob("*") if is_temporary(path)]
        parts = [str(path) for path in (self.run / "parts").glob("*")]
        return inside + parts + [str(path) for path in self.temporary.iterdir()]
