"""What the Ray engine costs, how it scales, and whether a cluster that loses parts of itself changes a digit.

    python -m experiments.benchmarks.ray_scaling [scaling] [many] [embedded] > experiments/benchmarks/ray_scaling.txt

Real Ray clusters on loopback, on one machine. `scaling`: 64 configurations that sleep, on 1, 2, 4 and 8 nodes of one
processor. `many`: 10 000 configurations planned and done by Ray tasks that only report. `embedded`: the embedded grid
by local processes, on three nodes of which one is killed, and with the driver killed and started again.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.execution.engines.node import Began, Order, Post
from harness.execution.engines.ray import RayEngine
from harness.execution.runner import Runner
from harness.execution.task import CellDone, Ended, Phase, Progress, Task
from harness.experiment.cell import CellStatus
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.records.layout import LEASES
from harness.records.leases import Leases
from harness.records.recording import RunDirectory
from harness.resolution.identity import cells_of, resolve
from tests.harness.clusters import LOOPBACK, ROOT, cluster

SECONDS, SLEEPING, MANY = 5.0, 64, 10_000
LIMIT = 20
_EXPERIMENT = """
name = "many"
model = "embedded"
data = [{{ dataset = "embedded", split = "clean" }}]
decoding = {{ strategy = "plain" }}
run = {{ device = "cpu", engine = "ray", address = "{address}" }}
[[grid]]
backend = "bitsandbytes"
scheme = "dynamic"
bits = 8
options.bitsandbytes.threshold = {thresholds}
"""


def sleep(seconds: float, order: Order, post: Post) -> None:
    """Do nothing for a while, and say that it is done."""
    post.send([Began()])
    time.sleep(seconds)
    done = [CellDone(cell.cell_id) for cell in order.task.cells]
    post.send([*done, Ended(CellStatus.DONE, "")])


class Silence:
    """An observer that only counts."""

    ended_well = 0

    def started(self, task: Task) -> None:
        """Nothing."""

    def entered(self, task: Task, phase: Phase) -> None:
        """Nothing."""

    def progressed(self, task: Task, progress: Progress) -> None:
        """Nothing."""

    def passed_over(self, utterances: int) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def ended(self, task: Task, status: CellStatus, reason: str, seconds: float) -> None:
        """Count it."""
        self.ended_well += status is CellStatus.DONE


def peak() -> float:
    """MB that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def done(address: str, count: int, duty: Callable[[Order, Post], None], root: Path) -> tuple[float, float, int]:
    """Plan and do so many configurations; seconds, the driver's own seconds of processor, and how many were done."""
    file = root / "many.toml"
    file.write_text(_EXPERIMENT.format(address=address, thresholds=[i / 100 for i in range(count)]))
    experiment = load_experiment(file)
    directory, observer = RunDirectory(root / f"run{time.time()}"), Silence()
    planned = [c for c in configurations(experiment) if not c.is_baseline]
    resolved = resolve(experiment, planned, directory.path)
    model = resolved.models[planned[0].model].directory
    cells = [cells_of(c, experiment, resolved) for c in planned]
    tasks = [Task.of(own, experiment, model, directory.path, alone=False) for own in cells]
    before = {cell.cell_id: None for own in cells for cell in own}
    with Leases(directory.path / LEASES, 60.0) as leases, RayEngine(experiment.run, directory, duty) as engine:
        began, used = time.perf_counter(), time.process_time()
        Runner(directory, leases, engine, observer, before).run(tasks)
        return time.perf_counter() - began, time.process_time() - used, observer.ended_well


def scaling(root: Path) -> None:
    """Print the wall time on ever more nodes."""
    print(f"\n{SLEEPING} configurations that sleep {SECONDS:g} s, one at a time on each node")
    print(f"{'nodes':>5} {'wall, s':>9} {'ideal, s':>9} {'over':>7} {'driver, ms of processor a configuration':>41}")
    for nodes in (1, 2, 4, 8):
        with cluster(nodes) as found:
            wall, used, count = done(found.address, SLEEPING, partial(sleep, SECONDS), root)
        assert count == SLEEPING
        ideal = SLEEPING * SECONDS / nodes
        print(f"{nodes:5} {wall:9.1f} {ideal:9.1f} {wall / ideal - 1:7.1%} {1000 * used / count:41.1f}", flush=True)


def many(root: Path) -> None:
    """Print what thousands of configurations cost the driver."""
    with cluster(2, processors=4) as found:
        done(found.address, 10, partial(sleep, 0.0), root)
        before = peak()
        began = time.perf_counter()
        wall, used, count = done(found.address, MANY, partial(sleep, 0.0), root)
        whole = time.perf_counter() - began
    assert count == MANY
    print(f"\n{MANY} configurations whose tasks only report, on 2 nodes of 4 processors")
    print(
        f"planned in {whole - wall:.1f} s, done in {wall:.1f} s: {1000 * wall / count:.1f} ms each, of which the driver"
    )
    grown = peak() - before
    print(f"computes {1000 * used / count:.1f} ms; its memory of {before:.0f} MB grew by {grown:.0f} MB at most")


def driver(out: Path, *flags: str) -> subprocess.Popen[bytes]:
    """The embedded grid in a process of its own."""
    file = "experiments/embedded.toml"
    command = [sys.executable, "-m", "harness.grid", file, "--limit", str(LIMIT), "--out", str(out), *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def wait_for_cells(out: Path, count: int) -> None:
    """Until so many cells are finished."""
    while len(list(out.glob("*/cells/*/DONE"))) < count:
        time.sleep(0.2)


def texts(out: Path) -> dict[str, list[tuple[str, str, Sequence[int]]]]:
    """By cell, the transcript of every utterance."""
    import pandas

    found = {}
    for path in out.glob("*/cells/*/utterances.parquet"):
        frame = pandas.read_parquet(path)
        found[path.parent.name] = [
            (name, said, tuple(tokens))
            for name, said, tokens in zip(frame["id"], frame["hypothesis"], frame["tokens"], strict=True)
        ]
    return found


def embedded(root: Path) -> None:
    """Print whether all ways to run the embedded grid give the same words."""
    print(f"\nthe embedded grid, {LIMIT} utterances of each split, one processor a node")
    began = time.perf_counter()
    driver(root / "local").wait()
    print(f"local processes: {time.perf_counter() - began:.0f} s", flush=True)
    for name, disturb in (("undisturbed", None), ("a node killed", kill_node), ("the driver killed", kill_driver)):
        out = root / name.replace(" ", "-")
        began = time.perf_counter()
        with cluster(3) as found:
            flags = ("--engine", "ray", "--set", f'run.address="{found.address}"')
            process = driver(out, *flags)
            if disturb is not None:
                wait_for_cells(out, 12)
                process = disturb(found, process, lambda out=out, flags=flags: driver(out, *flags))
            process.wait()
        ours, theirs = texts(out), texts(root / "local")
        same = sum(ours.get(cell) == said for cell, said in theirs.items())
        utterances = sum(map(len, theirs.values()))
        print(
            f"Ray, {name}: {time.perf_counter() - began:.0f} s; {same} of {len(theirs)} cells "
            f"({utterances} transcripts) have the same words and tokens",
            flush=True,
        )


def kill_node(found: Any, process: subprocess.Popen[bytes], again: Callable[[], Any]) -> subprocess.Popen[bytes]:
    """Lose a node with all its processes; the driver goes on."""
    found.remove_node(next(iter(found.worker_nodes)), allow_graceful=False)
    return process


def kill_driver(found: Any, process: subprocess.Popen[bytes], again: Callable[[], Any]) -> Any:
    """Lose the driver, and start it again."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    return again()


def main() -> None:
    """Print the parts that are asked for, or all."""
    os.environ.update(LOOPBACK)
    parts = {part.__name__: part for part in (scaling, many, embedded)}
    import ray

    print(f"Ray {ray.__version__}, {os.cpu_count()} cores for everything, load {os.getloadavg()[0]:.0f} at the start")
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory() as root:
            parts[name](Path(root))


if __name__ == "__main__":
    main()
