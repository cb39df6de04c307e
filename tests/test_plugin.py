"""A package from outside: installed by pip, found by its entry points, held to the contract, used by the grid."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

PACKAGE = Path(__file__).parent / "plugin_package"

EXPERIMENT = """
name = "plugged"
model = "embedded"
data = [{ dataset = "tones" }]
decoding = { max_new_tokens = 5 }
run = { device = "cpu" }
[[grid]]
backend = "rowwise"
bits = 8
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a process that has the plug-in installed."""
    root = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, root / "source")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(root / "installed")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(root / "source")], check=True)
    return {**os.environ, "PYTHONPATH": str(root / "installed")}


def test_the_readme_shows_it():
    source = (PACKAGE / "asrquant_example" / "rowwise.py").read_text()
    shown = source[source.index("from dataclasses") :]
    assert f"```python\n{shown}```" in (PACKAGE.parents[1] / "backends" / "README.md").read_text()


@pytest.mark.slow
def test_it_keeps_the_contract(environment, tmp_path):
    code = "import sys, pathlib; from backends.testing import check_backend as check; "
    code += "print(*check('rowwise', pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "rowwise-weight_only-int8-per_channel\n"


def test_the_grid_uses_both(environment, tmp_path):
    (tmp_path / "plugged.toml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "harness.grid", str(tmp_path / "plugged.toml"), "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = pandas.read_parquet(tmp_path / "plugged" / "results.parquet").set_index("backend")
    assert rows["status"].to_dict() == {"none": "done", "rowwise": "done"}
    assert rows.loc["rowwise", "size_reduction"] > 0.5
    assert rows["utterances"].tolist() == [8, 8]
