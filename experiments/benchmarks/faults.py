"""A campaign of faults: a small grid is disturbed again and again, resumed, and compared with an undisturbed one.

    python -m experiments.benchmarks.faults [SEED [KIND ...]] > experiments/benchmarks/faults.txt

Every fault is injected into a run of its own, at a random moment or into a random file; then the same command, with
`--retry`, has to end with status 0, with the same transcripts and the same statistics byte for byte, without a process
or a temporary file left. Needs Linux; what needs the right to mount or libfaketime is left out where there is none.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.benchmarks._campaign import FAKETIME, Campaign
from harness import cost

AT_A_TIME = 2
"""Campaigns side by side, each with a directory of its own and its share of the faults."""
KINDS = {
    "worker killed": 30,
    "fork server killed": 18,
    "runner killed": 38,
    "worker stopped": 8,
    "runner stopped": 6,
    "Ctrl-C": 14,
    "SIGTERM": 8,
    "memory limit": 14,
    "disk full": 14,
    "file truncated": 20,
    "bit flipped": 20,
    "file removed": 8,
    "clock jumps": 6,
}


def moment(campaign: Campaign, process: subprocess.Popen[str]) -> None:
    """Wait for a random moment of a run that is not over."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(campaign.rng.uniform(0.1, 1.0) * campaign.seconds)


def victims(campaign: Campaign, process: subprocess.Popen[str], kind: str) -> list[int]:
    """Processes of one kind: the fork server, or the workers, which are its children."""
    servers = [pid for pid, line in campaign.processes().items() if "forkserver" in line]
    parents = {pid: _parent(pid) for pid in servers}
    server = [pid for pid, parent in parents.items() if parent == process.pid]
    return server if kind == "server" else [pid for pid, parent in parents.items() if parent in server]


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def signalled(campaign: Campaign, number: int, kind: str, then: int | None = None) -> bool:
    """Start a run and send a signal to one of its processes; whether there was one."""
    process = campaign.start()
    moment(campaign, process)
    found = [process.pid] if kind == "runner" else victims(campaign, process, kind)
    hit = bool(found) and process.poll() is None
    if hit:
        chosen = campaign.rng.choice(found)
        with suppress(ProcessLookupError):
            os.kill(chosen, number)
            if then is not None:
                time.sleep(campaign.rng.uniform(0.5, 8))
                os.kill(chosen, then)
    if number == signal.SIGKILL and kind == "runner":
        process.wait()
        until = time.monotonic() + 30  # a fork server that is loading torch looks for its parent after that
        while campaign.processes():
            assert time.monotonic() < until, f"children outlived the runner: {campaign.processes()}"
            time.sleep(0.1)
    process.communicate(timeout=300)
    return hit


def memory_limit(campaign: Campaign) -> bool:
    """Forbid a worker to take more memory than it has."""
    import resource

    process = campaign.start()
    moment(campaign, process)
    found = victims(campaign, process, "worker")
    if found:
        with suppress(ProcessLookupError, OSError):
            chosen = campaign.rng.choice(found)
            pages = int(Path(f"/proc/{chosen}/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + campaign.rng.choice([0, 1 << 20, 1 << 24])
            resource.prlimit(chosen, resource.RLIMIT_AS, (limit, limit))
    process.communicate(timeout=300)
    return bool(found)


@contextmanager
def small_disk(campaign: Campaign, size: int) -> Iterator[None]:
    """The run directory on a file system of so many bytes, as long as the block lasts."""
    campaign.out.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(campaign.out)], check=True)
    try:
        yield
        kept = campaign.root / "kept"
        shutil.copytree(campaign.out, kept)
    finally:
        subprocess.run(["umount", str(campaign.out)], check=True)
    campaign.out.rmdir()
    kept.rename(campaign.out)


def disk_full(campaign: Campaign) -> bool:
    """Too little room for results; what was kept is then moved to a disk with room."""
    with small_disk(campaign, campaign.rng.choice([1, 8, 24, 64, 200, 400, 900, 2000, 9000]) * 1024):
        process = campaign.start()
        said, _ = process.communicate(timeout=300)
        if process.returncode not in (0, 2) or "Traceback" in said:
            raise AssertionError(f"status {process.returncode}: {said[-2000:]}")
        return process.returncode == 2


def damaged(campaign: Campaign, how: Callable[[Path], None]) -> bool:
    """Damage a random file of a finished run, or of one that was killed."""
    if campaign.rng.random() < 0.5:
        shutil.copytree(campaign.whole, campaign.out)
    else:
        signalled(campaign, signal.SIGKILL, "runner")
    files = [path for path in sorted(campaign.run.rglob("*")) if path.is_file() and path.stat().st_size]
    if files:
        how(campaign.rng.choice(files))
    return bool(files)


def truncated(campaign: Campaign) -> Callable[[Path], None]:
    """Cut a file short."""
    return lambda path: os.truncate(path, int(path.stat().st_size * campaign.rng.random()))


def flipped(campaign: Campaign) -> Callable[[Path], None]:
    """Turn one bit of a file."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[campaign.rng.randrange(len(content))] ^= 1 << campaign.rng.randrange(8)
        path.write_bytes(content)

    return flip


def clock_jumps(campaign: Campaign) -> bool:
    """The clock of the run goes wrong by years, and the run is killed; the next one has the right time."""
    jump = campaign.rng.choice(["-3y", "+5y", "-2h"])
    process = campaign.start(LD_PRELOAD=str(FAKETIME), FAKETIME=jump, FAKETIME_DONT_FAKE_MONOTONIC="1")
    moment(campaign, process)
    process.kill()
    process.communicate(timeout=300)
    return True


def faults(campaign: Campaign) -> dict[str, Callable[[], bool]]:
    """What injects a fault of every kind; each says whether it hit."""
    return {
        "worker killed": lambda: signalled(campaign, signal.SIGKILL, "worker"),
        "fork server killed": lambda: signalled(campaign, signal.SIGKILL, "server"),
        "runner killed": lambda: signalled(campaign, signal.SIGKILL, "runner"),
        "worker stopped": lambda: signalled(campaign, signal.SIGSTOP, "worker"),
        "runner stopped": lambda: signalled(campaign, signal.SIGSTOP, "runner", signal.SIGCONT),
        "Ctrl-C": lambda: signalled(campaign, signal.SIGINT, "runner"),
        "SIGTERM": lambda: signalled(campaign, signal.SIGTERM, "runner"),
        "memory limit": lambda: memory_limit(campaign),
        "disk full": lambda: disk_full(campaign),
        "file truncated": lambda: damaged(campaign, truncated(campaign)),
        "bit flipped": lambda: damaged(campaign, flipped(campaign)),
        "file removed": lambda: damaged(campaign, Path.unlink),
        "clock jumps": lambda: clock_jumps(campaign),
    }


def judged(campaign: Campaign) -> str:
    """What is wrong after the resumed run; empty if nothing is."""
    status = campaign.finish()
    if status != 0:
        return f"status {status}: {campaign.said[-1500:]}"
    if campaign.fingerprint() != campaign.undisturbed:
        return "other transcripts or statistics"
    if campaign.processes():
        return f"processes are left: {campaign.processes()}"
    return f"files are left: {campaign.leftovers()}" if campaign.leftovers() else ""


def worked_off(seed: int, part: int, kinds: list[str]) -> list[tuple[str, str]]:
    """Faults of these kinds, one after the other, each with what was wrong after it."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        campaign = Campaign(Path(scratch), random.Random(f"{seed} {part}"))
        inject = faults(campaign)
        for kind in kinds:
            shutil.rmtree(campaign.out, ignore_errors=True)
            while not inject[kind]():
                shutil.rmtree(campaign.out, ignore_errors=True)
            found.append((kind, judged(campaign)))
            print(
                f"{part}: {len(found):4} of {len(kinds)} {kind:20} {found[-1][1] or 'as undisturbed'}", file=sys.stderr
            )
    return found


def main() -> None:
    """Print what happened."""
    seed = int(sys.argv[1]) if sys.argv[1:] else 0
    todo = [kind for kind, count in KINDS.items() for _ in range(count) if kind in (sys.argv[2:] or KINDS)]
    random.Random(seed).shuffle(todo)
    parts = range(AT_A_TIME)
    began = time.monotonic()
    with ProcessPoolExecutor(AT_A_TIME) as pool:
        done = pool.map(worked_off, [seed] * AT_A_TIME, parts, [todo[part::AT_A_TIME] for part in parts])
        found = [one for part in done for one in part]
    print(f"{cost.environment(1, '')['processor']}, seed {seed}, {(time.monotonic() - began) / 60:.0f} minutes\n")
    for kind, count in Counter(kind for kind, _ in found).items():
        print(f"{kind:20} {count:4}")
    bad = [wrong for _, wrong in found if wrong]
    print(f"{'all':20} {len(found):4}\n\nresumed runs that differ, fail or leave something: {len(bad)}")
    for wrong in bad:
        print(f"  {wrong}")


if __name__ == "__main__":
    main()
