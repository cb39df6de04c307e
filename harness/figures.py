"""Draw a run's figures from its stored results.

Writes an `.svg` and a `.png` of every figure that the run has something for. Figures are made by this
command and never edited.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from backends.core.commands import command_parser
from harness._command import run_command
from harness.errors import OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = command_parser(
        "harness.figures",
        __doc__,
        ["runs/embedded", "experiments/results/study_tiny_en --out figures"],
        done="they are drawn",
    )
    parser.add_argument("run", type=Path, help="directory of a run, or of a published one")
    parser.add_argument(
        "--out", type=Path, help="where to write; default: RUN/figures; of a published one below runs/published/"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options.run, options.out))


def _run(run: Path, out: Path | None) -> int:
    for path in _draw(run, out):
        print(path)
    return 0


def _draw(path: Path, chosen: Path | None) -> Iterator[Path]:
    from harness.records.reading import open_run, place_for
    from harness.report.charts import figures, save

    run = open_run(path)
    drawn, out = list(figures(run)), chosen or place_for(run, "figures")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn:
            for path in (out / f"{name}.svg", out / f"{name}.png"):
                save(figure, path)
                yield path
    except OSError as error:
        reason = "it is a file" if out.is_file() else f"figures cannot be written there: {error.strerror}"
        raise OutputError(f"{out}: {reason}; choose another --out") from None


if __name__ == "__main__":
    sys.exit(main())
