"""The tables of the READMEs are not stale, and every key and command is documented."""

import sys
from pathlib import Path
from runpy import run_module

import pytest

from experiments import readme, reference


def test_the_tables_are_not_stale(capsys):
    assert readme.main(["--check"]) == 0, capsys.readouterr().err


def test_a_table_is_written_between_its_markers():
    text = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n"
    assert readme.replaced(text, "one", "| new |\n") == text.replace("old", "| new |")
    assert readme.replaced(text, "three", "| new |") == text


def test_every_key_of_an_experiment_file_has_its_meaning():
    for heading, table in reference.TABLES.items():
        tables = {"data", "decoding", "scoring", "calibration", "run", "published", "point", "grid"}
        repeated = set() if heading else tables
        assert set(table.model_fields) - repeated == set(reference.meanings_of(table)), heading


COMMANDS = sorted(
    [f"harness.{path.stem}" for path in Path("harness").glob("[a-z]*.py") if "run_command" in path.read_text()]
    + ["harness.report", "backends"]
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_ends_with_examples_and_statuses(command, capsys, monkeypatch):
    module = f"{command}.__main__" if Path(*command.split(".")).is_dir() else command
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)  # as `python -m` finds it
    with pytest.raises(SystemExit, match="0"):
        run_module(module, run_name="__main__")
    shown = capsys.readouterr().out
    examples, statuses = shown[shown.index("\nexamples:\n") :].rsplit("\n\n", 1)
    assert all(line.startswith(f"  python -m {command}") for line in examples.strip().splitlines()[1:])
    assert statuses.startswith("exit status: 0 ")
    assert "2 usage error, 130 interrupted" in statuses
