"""What people look at: tables and progress lines."""

import io
import math
from pathlib import Path

from rich.console import Console

from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.report.tables import results_table, unfinished_table

EXPERIMENT = load_experiment(Path("experiments/embedded.toml"))
PLANNED = configurations(EXPERIMENT)


def row(backend, split, wer, size, status="done", reason="", **statistics):
    return {
        "model": "embedded",
        "revision": None,
        "dtype": "float32",
        "device": "cpu",
        "backend": backend,
        "configuration": f"{backend} x",
        "configuration_id": f"{backend} x",
        "options": "{}",
        "split": split,
        "status": status,
        "reason": reason,
        "wer": wer,
        "nll": None if wer is None else 2 * wer,
        "size_bytes": size,
        "size_reduction": 1 - size / 20e6 if size else None,
        "size_reduction_published": 1 - size / 10e6 if size else None,
        "effective_bits": 8.0,
        "difference": None,
        "difference_low": None,
        "difference_high": None,
        "identical": None,
        "non_inferior": None,
    } | statistics


ROWS = [
    row("none", "clean", 0.04, 20e6),
    row("none", "other", 0.2, 20e6),
    row("hqq", "clean", 0.05, 5e6, difference=0.01, difference_low=0.002, difference_high=0.018, non_inferior=False),
    row("hqq", "other", 0.19, 5e6, difference=-0.01, difference_low=-0.02, difference_high=0.0, non_inferior=True),
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
    assert "0.380" in text
    assert "+1.00 [+0.20, +1.80] " in text
    assert "-1.00 [-2.00, +0.00] =" in text
    assert "certainly fewer than 5% more errors" in text
    assert "75.0%" in text
    assert "quanto" not in text


def test_where_nothing_is_said_words_a_minute_are_told():
    nothing = {"reference_words": 0, "nll": None}
    more = {"hallucinated_difference": 2.5, "hallucinated_low": 1.0, "hallucinated_high": 4.0}
    rows = [
        row("none", "nonspeech", math.nan, 20e6, hallucinated_per_minute=1.5, **nothing),
        row("hqq", "nonspeech", math.nan, 5e6, hallucinated_per_minute=4.0, **nothing, **more),
        row("hqq", "clean", 0.05, 5e6, reference_words=9),
    ]
    text = printed(results_table(rows))
    assert "words a minute, nonspeech" in text
    assert "WER clean" in text
    assert "4.00 │ +2.50 [+1.00, +4.00] │" in text
    assert "nan" not in text


def test_what_is_not_done_is_there_once_with_its_reason_as_text():
    text = printed(unfinished_table(ROWS))
    assert text.count("quanto x") == 1
    assert "clean, other" in text
    assert "[bold]it broke[/bold]" in text
    assert "x" * 300 not in text.replace("\n", "")
    assert unfinished_table(ROWS[:4]) is None
