"""Write a run's page from its stored results: `python -m harness.report runs/embedded`.

The page is one HTML file that needs no network and no other file. It is made by this command and
never edited.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.command import run_command
from harness.errors import OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.report", description=__doc__)
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/embedded")
    parser.add_argument("--out", type=Path, help="file to write; default: RUN/report.html")
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options.run, options.out or options.run / "report.html"))


def _run(run: Path, out: Path) -> int:
    print(_write(run, out))
    return 0


def _write(run: Path, out: Path) -> Path:
    """Write the page under a temporary name and put it in place of an earlier one."""
    from harness.report.page import render
    from harness.store import StoredRun

    text = render(StoredRun(run))
    temporary = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{out}: the page cannot be written there: {error.strerror}; choose another --out") from None
    return out


if __name__ == "__main__":
    sys.exit(main())
