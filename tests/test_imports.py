"""What may be imported by whom, beyond what import-linter sees: nothing heavy before it is needed."""

import os
import shutil
import subprocess
import sys

import pytest

from harness.grid import main

LIGHT = [
    "import backends; backends.available()",
    "import harness.grid, harness.experiment.plan, harness.execution.runner, harness.records.store",
    "import harness.metrics, harness.report.tables",
    "import harness.stats, harness.compare, harness.records.transcripts, harness.records.results",
    "import harness.report.findings",
    "import harness.report.__main__, harness.figures, harness.latency",
    "import harness.claims, harness.publish, harness.search, harness.records.reading",
    "import harness.datasets; harness.datasets.available()",
    "import importlib, pkgutil, backends\n"
    "for m in pkgutil.iter_modules(backends.__path__):\n"
    "    m.name.endswith(('_modules', '__main__')) or importlib.import_module('backends.' + m.name)",
    "from harness.grid import main; assert main(['experiments/whisper_small.toml', '--dry-run']) == 0",
    "from harness.grid import main; assert main(['experiments/whisper_small.toml', '--list']) == 0",
]


CHECK = """
import sys
for code in sys.argv[1:]:
    exec(code)
    heavy = [module for module in ("torch", "transformers", "datasets") if module in sys.modules]
    assert not heavy, f"{heavy} after: {code}"
"""


def test_these_imports_are_light():
    """One after another in one process: the first that is not light ends it."""
    done = subprocess.run([sys.executable, "-c", CHECK, *LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_workers_import_beforehand_says_nothing():
    done = subprocess.run([sys.executable, "-c", "import harness.execution.forkserver"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_beside_a_gpu_nothing_is_imported_beforehand(tmp_path):
    """A process forked after a library looked for GPUs cannot use one."""
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    code = "import sys, harness.execution.forkserver; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
    assert subprocess.run([sys.executable, "-c", code]).returncode == (shutil.which("nvidia-smi") is None)


def test_help_names_the_flags(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for flag in ("--dry-run", "--list", "--only", "--limit", "--workers", "--out", "--set", "--from", "--retry"):
        assert flag in shown


def test_the_public_face_is_what_it_says():
    import backends

    assert sorted(backends.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == backends.__all__
    assert all(hasattr(backends, name) for name in backends.__all__)
