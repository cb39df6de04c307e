"""All commands under one name: measure, search, report and judge what quantization costs a speech recogniser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from backends.core.commands import called

COMMANDS = {
    "grid": ("harness.grid", "run an experiment"),
    "search": ("harness.search", "find the best configuration of an experiment"),
    "latency": ("harness.latency", "time its configurations"),
    "analyze": ("harness.analyze", "find the layers that lose"),
    "report": ("harness.report.__main__", "write the page of a run"),
    "figures": ("harness.figures", "draw its figures"),
    "compare": ("harness.compare", "compare two cells, or transcripts"),
    "claims": ("harness.claims", "test published claims"),
    "gate": ("harness.gate", "judge a run against an earlier one"),
    "verify": ("harness.verify", "check a run"),
    "publish": ("harness.publish", "write what can be committed of a run"),
    "transcribe": ("harness.transcribe", "transcribe files with a saved model"),
    "backends": ("backends.__main__", "what backends can do; quantize, inspect and export models"),
}
"""Module and purpose by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        status: int = import_module(COMMANDS[given[0]][0]).main(given[1:])
        return status
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog=called("harness"),
        description=__doc__,
        epilog="\n".join(["commands:", *(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="of those below; COMMAND --help says more")
    parser.add_argument("--version", action="version", version=f"asrquant {metadata.version('asrquant')}")
    parser.parse_args(given)
    raise AssertionError("a command that is known was called")


if __name__ == "__main__":
    sys.exit(main())
