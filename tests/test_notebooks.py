"""The notebooks run from top to bottom, on a small run that is made for them."""

import csv
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import nbformat
import pytest

from harness.embedded import SPEECH_DIRECTORY

pytestmark = pytest.mark.slow

NOTEBOOKS = Path("notebooks")
SPEAKERS, UTTERANCES = 6, 2
EXPERIMENT = """
name = "small"
[[model]]
path = "embedded"
[[data]]
dataset = "folder"
root = "{root}"
split = "clean"
[[data]]
dataset = "folder"
root = "{root}"
split = "other"
[decoding]
batch_size = 100
max_new_tokens = 60
[run]
device = "cpu"
workers = 2
[[grid]]
backend = "hqq"
granularity = ["per_channel", "per_group:64"]
bits = [4, 3]
"""


def python(*arguments, **environment):
    """Run Python quietly; its output is shown where it fails."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def copy_speech(split, directory):
    """A few utterances of several speakers, with their transcripts, as the corpus `folder` takes them."""
    directory.mkdir(parents=True)
    rows = []
    for path in islice(sorted((SPEECH_DIRECTORY / split).glob("*/*/*.trans.txt")), SPEAKERS):
        for line in path.read_text().splitlines()[:UTTERANCES]:
            name, text = line.split(" ", 1)
            shutil.copy(path.parent / f"{name}.ogg", directory)
            rows.append([f"{name}.ogg", text, name.partition("-")[0]])
    with (directory / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "text", "speaker"], *rows])


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    for split in ("clean", "other"):
        copy_speech(split, root / "speech" / split)
    experiment = root / "small.toml"
    experiment.write_text(EXPERIMENT.format(root=root / "speech"))
    python("-m", "harness.grid", experiment, "--out", root)
    return root / "small"


@pytest.fixture
def executed(tmp_path, request):
    """A function that executes a copy of one notebook, and gives all that its cells printed or returned, as text."""

    def execute(name, **environment):
        copied = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
        python(copied / "execute.py", name, **environment)
        assert {path.name for path in copied.iterdir()} == {path.name for path in NOTEBOOKS.iterdir()}
        cells = nbformat.read(copied / name, as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        return "\n".join(output.get("text") or output["data"]["text/plain"] for output in outputs)

    return execute


def test_size_vs_wer(small_run, executed):
    shown = executed("size_vs_wer.ipynb", ASRQUANT_RUN=str(small_run))
    assert "'done': 10" in shown
    assert "hqq weight_only int4" in shown
    assert "Pareto frontier" in shown


def test_disentangling(small_run, executed):
    shown = executed("disentangling.ipynb", ASRQUANT_RUN=str(small_run))
    assert "per_group:64 instead of per_channel" in shown
    assert f"over {SPEAKERS} speakers" in shown


def test_use_an_adapter(executed):
    shown = executed("use_an_adapter.ipynb")
    assert shown.count("transcript:") == 3
    assert "Unsupported(reason=" in shown


def test_the_kept_notebooks_hold_no_path_and_no_time():
    for path in NOTEBOOKS.glob("*.ipynb"):
        text = path.read_text()
        assert str(Path.cwd()) not in text
        assert "site-packages" not in text
        assert '"execution"' not in text
