"""The one command that has all others."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.__main__ import COMMANDS, main


def test_every_command_is_there():
    files = [path for path in Path("harness").glob("[a-z]*.py") if "def main(" in path.read_text()]
    modules = {f"harness.{path.stem}" for path in files}
    assert modules <= {module for module, _ in COMMANDS.values()}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_have_the_same_help_under_either_name(name, capsys, monkeypatch):
    helps = []
    for program in ("/usr/bin/asrquant", "-m"):
        monkeypatch.setattr(sys, "argv", [program])
        with pytest.raises(SystemExit) as done:
            main([name, "--help"])
        assert done.value.code == 0
        helps.append(capsys.readouterr().out)
    assert helps[0].startswith(f"usage: asrquant {name} ")
    assert f"  asrquant {name} " in helps[0] or name in ("claims", "backends")
    module = COMMANDS[name][0].removesuffix(".__main__")
    assert helps[0].replace(f"asrquant {name}", f"python -m {module}").split() == helps[1].split()


def test_the_console_script_is_it():
    shown = subprocess.run([Path(sys.executable).with_name("asrquant"), "--help"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: asrquant [-h] [--version] COMMAND")
    assert all(f"  {name} " in shown.stdout for name in COMMANDS)


def test_no_command_and_an_unknown_one_are_mistakes(capsys):
    for given, expected in (([], "COMMAND"), (["gat"], "invalid choice: 'gat'")):
        with pytest.raises(SystemExit) as done:
            main(given)
        assert done.value.code == 2
        assert expected in capsys.readouterr().err
