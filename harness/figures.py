"""Draw a run's figures from its stored results: `python -m harness.figures runs/embedded --out figures`.

Writes `size_vs_wer.svg` and `.png`. Figures are made by this command and never edited.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backends import AsrQuantError
from harness.errors import OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.figures", description=__doc__)
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/embedded")
    parser.add_argument("--out", type=Path, help="where to write; default: RUN/figures")
    options = parser.parse_args(arguments)
    try:
        for path in _draw(options.run, options.out or options.run / "figures"):
            print(path)
    except AsrQuantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _draw(run: Path, out: Path) -> list[Path]:
    import matplotlib
    import pandas

    from harness.report.charts import size_vs_wer

    results = run / "results.parquet"
    if not results.is_file():
        raise OutputError(f"{results}: there are no results; run the experiment first with python -m harness.grid")
    figure = size_vs_wer(pandas.read_parquet(results))
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths = [out / f"size_vs_wer.{suffix}" for suffix in ("svg", "png")]
        with matplotlib.rc_context({"svg.hashsalt": "asrquant"}):  # the same results give the same bytes
            for path in paths:
                figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise OutputError(f"{out}: figures cannot be written there: {error.strerror}; choose another --out") from None
    return paths


if __name__ == "__main__":
    sys.exit(main())
