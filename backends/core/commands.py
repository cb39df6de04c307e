"""The help of a command line in one form: purpose, arguments, examples, exit status."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path


def called(program: str) -> str:
    """How a program is called here: by `python -m`, or as a command of `asrquant`."""
    if Path(sys.argv[0]).stem != "asrquant":
        return f"python -m {program}"
    return f"asrquant {program.removeprefix('harness').removeprefix('.')}".rstrip()


def command_parser(
    program: str, purpose: str | None, examples: Sequence[str], *, done: str, failed: str = ""
) -> argparse.ArgumentParser:
    """A parser whose help ends with examples and exit statuses.

    Args:
        program: as in `harness.grid`.
        purpose: the docstring of its module.
        examples: arguments, as one would type them.
        done, failed: what the statuses 0 and 1 mean; without the latter there is no status 1.
    """
    statuses = [f"0 {done}", *([f"1 {failed}"] if failed else []), "2 usage error", "130 interrupted"]
    lines = [f"  {called(program)} {arguments}".rstrip() for arguments in examples]
    return argparse.ArgumentParser(
        prog=called(program),
        description=inspect.cleandoc(purpose or ""),
        epilog="\n".join(["examples:", *lines, "", f"exit status: {', '.join(statuses)}"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
