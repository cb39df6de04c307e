"""What people look at: tables, progress lines, figures."""

import io
from pathlib import Path

import pandas
import pytest
from rich.console import Console

from harness import figures
from harness.cell import CellStatus
from harness.config import load_experiment
from harness.plan import configurations
from harness.report.progress import LiveProgress, PlainProgress, observing
from harness.report.tables import results_table, unfinished_table

EXPERIMENT = load_experiment(Path("experiments/embedded.toml"))
PLANNED = configurations(EXPERIMENT)


def row(backend, split, wer, size, status="done", reason=""):
    return {
        "model": "embedded",
        "revision": None,
        "dtype": "float32",
        "device": "cpu",
        "backend": backend,
        "configuration": f"{backend} x",
        "options": "{}",
        "split": split,
        "status": status,
        "reason": reason,
        "wer": wer,
        "size_bytes": size,
        "size_reduction": 1 - size / 20e6 if size else None,
        "effective_bits": 8.0,
    }


ROWS = [
    row("none", "clean", 0.04, 20e6),
    row("none", "other", 0.2, 20e6),
    row("hqq", "clean", 0.05, 5e6),
    row("hqq", "other", 0.19, 5e6),
    row("quanto", "clean", None, None, "failed", "[bold]it broke[/bold] " + "x" * 400),
    row("quanto", "other", None, None, "failed", "[bold]it broke[/bold] " + "x" * 400),
]


def printed(renderable):
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_results_are_sorted_by_size_with_differences_from_full_precision():
    text = printed(results_table(ROWS))
    assert text.index("hqq x") < text.index("none x")
    assert "+1.00" in text
    assert "-1.00" in text
    assert "75.0%" in text
    assert "quanto" not in text


def test_what_is_not_done_is_there_once_with_its_reason_as_text():
    text = printed(unfinished_table(ROWS))
    assert text.count("quanto x") == 1
    assert "clean, other" in text
    assert "[bold]it broke[/bold]" in text
    assert "x" * 300 not in text.replace("\n", "")
    assert unfinished_table(ROWS[:4]) is None


def test_plain_lines_when_the_output_is_no_terminal():
    console = Console(file=io.StringIO(), width=200)
    with observing(console, 2, 4, 100) as observer:
        assert isinstance(observer, PlainProgress)
        observer.started(PLANNED[0])
        observer.progressed(50)
        observer.ended(PLANNED[0], CellStatus.DONE, "", 3.0)
        observer.ended(PLANNED[1], CellStatus.FAILED, "it [b]broke[/b]\ntrace", 3.0)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/2]")
    assert lines[0].endswith("full precision float32: done in 3 s")
    assert lines[1].endswith("failed: it [b]broke[/b]")


def test_a_live_bar_in_a_terminal():
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with observing(console, 2, 4, 100) as observer:
        assert isinstance(observer, LiveProgress)
        observer.started(PLANNED[0])
        observer.progressed(50)
        observer.ended(PLANNED[0], CellStatus.DONE, "", 3.0)
    assert "cells 2/4" in console.file.getvalue()
    assert "50/100" in console.file.getvalue()


def test_figures_are_drawn_from_results(tmp_path, capsys):
    pandas.DataFrame(ROWS).to_parquet(tmp_path / "results.parquet")
    assert figures.main([str(tmp_path)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.suffix for path in written] == [".svg", ".png"]
    assert all(path.stat().st_size > 5000 for path in written)
    again = written[0].read_bytes()
    figures.main([str(tmp_path)])
    assert written[0].read_bytes() == again


@pytest.mark.parametrize("arguments", [["nothing"], ["."]])
def test_figures_without_results_are_one_sentence(arguments, capsys):
    assert figures.main(arguments) == 2
    assert "run the experiment first" in capsys.readouterr().err
