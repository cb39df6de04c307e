"""The table of columns names every column of published results, and no other."""

import re
from pathlib import Path

from harness.records.reading import open_run

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def test_every_column_of_the_results_is_explained_once():
    lines = (EXPERIMENTS / "COLUMNS.md").read_text(encoding="utf-8").splitlines()
    named = [name for line in lines if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    runs = [path for path in (EXPERIMENTS / "results").iterdir() if path.is_dir()]
    there = {column for run in runs for row in open_run(run).results() for column in row}
    assert sorted(named) == sorted(there)
