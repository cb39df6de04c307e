"""Write a run's page from its stored results.

The page is one HTML file that needs no network and no other file. It is made by this command and
never edited.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from backends.core.commands import command_parser
from harness._command import run_command
from harness.errors import OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = command_parser(
        "harness.report",
        __doc__,
        ["runs/embedded", "experiments/results/study_base --out page.html"],
        done="the page is written",
    )
    parser.add_argument("run", type=Path, help="directory of a run, or of a published one")
    parser.add_argument(
        "--out", type=Path, help="file to write; default: RUN/report.html; of a published one below runs/"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options.run, options.out))


def _run(path: Path, chosen: Path | None) -> int:
    from harness.records.files import replacing, writing
    from harness.records.reading import missing, open_run, place_for
    from harness.report.page import render
    from harness.report.unfinished import unfinished_sentence

    if chosen is not None and chosen.is_dir():
        raise OutputError(f"{chosen}: it is a directory; name a file, such as {chosen}/report.html")
    run = open_run(path)
    text, out = render(run), chosen or place_for(run, "report.html")
    try:
        if chosen is None:
            with writing(out):
                out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OutputError as error:
        raise OutputError(f"{error}; or choose another --out") from error
    print(out)
    places = missing(run)
    if places:
        print(unfinished_sentence(run, places))
    return 0


if __name__ == "__main__":
    sys.exit(main())
