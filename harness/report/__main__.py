"""Write a run's page from its stored results, or a board of several runs.

Either is one HTML file that needs no network and no other file. It is made by this command and never edited.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backends.core.commands import command_parser
from harness._command import run_command
from harness.errors import ConfigError, OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = command_parser(
        "harness.report",
        __doc__,
        [
            "runs/embedded",
            "experiments/results/study_base --out page.html",
            "experiments/results/study_base experiments/results/study_tiny_en --board",
        ],
        done="the page is written",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directory of a run, or of a published one")
    parser.add_argument("--board", action="store_true", help="one table of all these runs, with filters")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write; default: RUN/report.html; of a published one below runs/published/; of a board "
        "runs/board.html",
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _board(options) if options.board else _page(options))


def _board(options: argparse.Namespace) -> int:
    from harness.records.reading import open_run
    from harness.report.board import render_board

    _check_place(options.out)
    out = options.out or Path("runs") / "board.html"
    runs = {path.resolve(): path for path in options.runs}
    _write(out, render_board(map(open_run, runs.values())), made=options.out is None)
    return 0


def _page(options: argparse.Namespace) -> int:
    from harness.records.reading import missing, open_run, place_for
    from harness.report.page import render
    from harness.report.unfinished import unfinished_sentence

    if len(options.runs) > 1:
        raise ConfigError(f"{len(options.runs)} runs: a page is of one; --board makes one table of several")
    _check_place(options.out)
    run = open_run(options.runs[0])
    _write(options.out or place_for(run, "report.html"), render(run), made=options.out is None)
    places = missing(run)
    if places:
        print(unfinished_sentence(run, places))
    return 0


def _check_place(out: Path | None) -> None:
    if out is not None and out.is_dir():
        raise OutputError(f"{out}: it is a directory; name a file, such as {out}/report.html")


def _write(out: Path, text: str, *, made: bool) -> None:
    """Write a page and print its path; where the place is our own, its directory is made."""
    from harness.records.files import replacing, writing

    try:
        if made:
            with writing(out):
                out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OutputError as error:
        raise OutputError(f"{error}; or choose another --out") from error
    print(out)


if __name__ == "__main__":
    sys.exit(main())
