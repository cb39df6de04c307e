"""What command lines have in common: how an experiment is named and changed, and what becomes of a user's mistake."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from backends import AsrQuantError
from harness.config import Experiment, load_experiment


def experiment_parser(program: str, purpose: str | None) -> argparse.ArgumentParser:
    """A parser for commands that work on the configurations of an experiment: its file, `--only`, `--set`, `--out`."""
    parser = argparse.ArgumentParser(prog=program, description=purpose)
    parser.add_argument("file", type=Path, help="experiment, such as experiments/embedded.toml")
    parser.add_argument(
        "--only", metavar="KEY=VALUE,...", help="only matching configurations, such as backend=hqq,bits=4|3"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument("--out", metavar="DIR", help="where <name>/ is made; default: runs")
    return parser


def experiment_of(options: argparse.Namespace, *overrides: str) -> Experiment:
    """The experiment that `experiment_parser`'s options name, with the command line's changes.

    Raises:
        ConfigError: see `load_experiment`.
    """
    out = [] if options.out is None else [f"run.output={json.dumps(options.out)}"]
    return load_experiment(options.file, [*options.set, *overrides, *out])


def run_command(action: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Return the exit status of `action`: 2 for what the user can mend, 130 after Ctrl-C, each with a sentence."""
    try:
        return action()
    except AsrQuantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}")
        return 130
