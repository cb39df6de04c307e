"""How a run goes: bars, plain lines, and what is left; on a clock of the test's own."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.execution.runner import Runner
from harness.execution.task import Phase, Progress, Task
from harness.experiment.cell import Cell, CellStatus
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Data
from harness.records.leases import Leases
from harness.records.recording import RunDirectory
from harness.report.progress import LiveProgress, PlainProgress, observing

EXPERIMENT = load_experiment(Path("experiments/embedded.toml"))
PLANNED = configurations(EXPERIMENT)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def task(number, **splits):
    """A task on splits of so many utterances, one a batch."""
    data = {split: Data(dataset="embedded", split=split) for split in splits}
    batches = {split: tuple((f"{split}{i}",) for i in range(count)) for split, count in splits.items()}
    cells = [Cell(PLANNED[number], data[split], {}, f"{number}{split}", batches[split]) for split in splits]
    return Task.of(cells, EXPERIMENT, Path(), Path())


def lines_at(clock, console, progress, now):
    """What is written when it is looked at then."""
    before = len(console.file.getvalue())
    clock.now = now
    progress.tick()
    return console.file.getvalue()[before:].splitlines()


def test_plain_lines_when_the_output_is_no_terminal(console):
    with observing(console, 4, 100) as observer:
        assert isinstance(observer, PlainProgress)
        observer.started(task(0, clean=50))
        observer.progressed(task(0, clean=50), Progress(50))
        observer.ended(task(0, clean=50), CellStatus.DONE, "", 3.0)
        observer.ended(task(1, clean=1, other=1), CellStatus.FAILED, "it [b]broke[/b]\ntrace", 3.0)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/4]")
    assert lines[0].endswith("full precision float32 on clean: done in 3 s")
    assert lines[1].endswith("failed: it [b]broke[/b]")


def test_once_a_minute_every_running_configuration_says_how_far_it_is(clock, console):
    progress = PlainProgress(console, 5, 400, clock)
    one, two, three = task(1, clean=100, other=80), task(2, clean=100), task(3, clean=100)
    for own in (one, two, three):
        progress.started(own)
    progress.entered(one, Phase("calibrating and quantizing"))
    progress.entered(two, Phase("clean", 100))
    progress.progressed(two, Progress(10))
    assert lines_at(clock, console, progress, 30.0) == []
    whole, first, second, third = lines_at(clock, console, progress, 60.0)
    assert whole == "[0/5]    60 s  10 of 400 utterances, about 39 min left"
    assert first.endswith(f"{PLANNED[1].label}: calibrating and quantizing for 60 s")
    assert second.endswith(f"{PLANNED[2].label}: clean 10 of 100 utterances, about 9 min left")
    assert third.endswith(f"{PLANNED[3].label}: starting for 60 s")
    assert lines_at(clock, console, progress, 90.0) == []
    assert len(lines_at(clock, console, progress, 120.0)) == 4


def test_what_is_left_of_a_configuration_is_all_of_its_splits(clock, console):
    progress = PlainProgress(console, 2, 180, clock)
    own = task(1, clean=100, other=80)
    progress.started(own)
    clock.now = 600.0
    progress.entered(own, Phase("clean", 100))
    progress.progressed(own, Progress(100))
    clock.now = 700.0
    progress.entered(own, Phase("other", 80))
    progress.progressed(own, Progress(20))
    _, line = lines_at(clock, console, progress, 720.0)
    assert line.endswith("other 20 of 80 utterances, 120 of 180 in all, about 60 s left")


def test_what_an_earlier_run_transcribed_says_nothing_of_the_pace(clock, console):
    progress = PlainProgress(console, 1, 100, clock)
    own = task(1, clean=100)
    progress.started(own)
    progress.entered(own, Phase("clean", 100))
    progress.progressed(own, Progress(80, kept=True))
    whole, line = lines_at(clock, console, progress, 60.0)
    assert whole.endswith("80 of 100 utterances")
    assert line.endswith("clean 80 of 100 utterances")
    progress.progressed(own, Progress(10))
    whole, line = lines_at(clock, console, progress, 120.0)
    assert whole.endswith("90 of 100 utterances, about 2 min left")
    assert line.endswith("clean 90 of 100 utterances, about 2 min left")


def test_what_a_lost_node_did_is_taken_back(clock, console):
    progress = PlainProgress(console, 1, 10, clock)
    own = task(1, clean=10)
    progress.started(own)
    progress.entered(own, Phase("clean", 10))
    progress.progressed(own, Progress(4))
    progress.progressed(own, Progress(-4))
    progress.entered(own, Phase("clean", 10))
    progress.progressed(own, Progress(1))
    whole, line = lines_at(clock, console, progress, 60.0)
    assert whole.endswith("1 of 10 utterances, about 9 min left")
    assert line.endswith("clean 1 of 10 utterances, about 9 min left")


def test_what_will_never_be_transcribed_is_not_waited_for(clock, console):
    progress = PlainProgress(console, 3, 300, clock)
    failing = task(1, clean=100)
    progress.passed_over(100)
    progress.started(failing)
    progress.entered(failing, Phase("clean", 100))
    progress.progressed(failing, Progress(25))
    progress.ended(failing, CellStatus.FAILED, "it broke", 1.0)
    (whole,) = lines_at(clock, console, progress, 100.0)
    assert whole.endswith("125 of 225 utterances, about 7 min left")


def test_a_live_bar_in_a_terminal():
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with observing(console, 4, 100) as observer:
        assert isinstance(observer, LiveProgress)
        own = task(0, clean=50, other=50)
        observer.started(own)
        observer.entered(own, Phase("clean", 50))
        observer.progressed(own, Progress(50))
        observer.entered(own, Phase("other", 50))
        observer.progressed(own, Progress(50))
        observer.ended(own, CellStatus.DONE, "", 3.0)
    assert "cells 2/4" in console.file.getvalue()
    assert "100/100" in console.file.getvalue()


def test_the_live_bar_says_what_is_left_and_what_is_done_now(clock):
    from rich.progress import Progress as Bar

    bar = Bar(console=Console(file=io.StringIO()))
    live = LiveProgress(bar, 4, 100, clock)
    own = task(1, clean=100)
    live.started(own)
    live.entered(own, Phase("quantizing"))
    clock.now = 600.0
    live.tick()
    assert bar.tasks[0].description == f"cells 0/4  {PLANNED[1].label}, quantizing"
    assert bar.tasks[0].fields["left"] == ""
    live.entered(own, Phase("clean", 100))
    live.progressed(own, Progress(20))
    assert bar.tasks[0].fields["left"] == "about 40 min left"
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (20, 100)


class Waiting:
    """An engine in which nothing happens for a while."""

    looks = 0

    def busy(self):
        return self.looks < 3

    def has_room(self):
        return False

    def events(self, seconds):
        self.looks += 1
        return []


def test_the_observer_is_asked_also_when_nothing_happens(tmp_path, clock, console):
    progress = PlainProgress(console, 1, 1, clock)
    progress.started(task(1, clean=1))
    clock.now = 60.0
    directory = RunDirectory(tmp_path)
    with Leases(directory.path / "leases", 60.0) as leases:
        Runner(directory, leases, Waiting(), progress, {}).run([])
    assert "starting for 60 s" in console.file.getvalue()
