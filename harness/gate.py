"""Judge a run against an earlier one: pass, fail or cannot tell, by limits on errors, size, time and memory.

A limit fails only where the run is certainly beyond it: the interval of the paired difference lies above it, at a
level that all checks share. It passes where the run is certainly within it; else the data cannot tell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from backends.core.commands import command_parser
from harness._command import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "harness.gate",
        __doc__,
        [
            "runs/embedded --baseline experiments/results/embedded --limits limits.toml",
            "runs/mine --baseline published --limits limits.toml --junit gate.xml --markdown gate.md",
        ],
        done="nothing fails",
        failed="something fails",
    )
    parser.add_argument("run", type=Path, help="directory of a run, or of a published one")
    parser.add_argument(
        "--baseline", type=Path, required=True, metavar="DIR", help="the earlier run, or a published one"
    )
    parser.add_argument("--limits", type=Path, required=True, metavar="FILE", help="TOML file of limits")
    parser.add_argument("--strict", action="store_true", help="what cannot be told fails too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the verdicts as JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them for a pull request")
    return parser


def _run(options: argparse.Namespace) -> int:
    from harness.report.gate import as_junit, as_markdown, as_table, summary
    from harness.report.gate._judged import Gate, Verdict
    from harness.report.gate._limits import load_limits

    checks = Gate(options.run, options.baseline, load_limits(options.limits)).checks()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if any(check.verdict is not Verdict.PASS for check in checks):
        console.print(as_table(checks))
    console.print(summary(checks))
    for path, text in ((options.junit, as_junit(checks)), (options.markdown, as_markdown(checks))):
        if path is not None:
            _write(path, text)
    failing = {Verdict.FAIL, *([Verdict.CANNOT_TELL] if options.strict else [])}
    return 1 if any(check.verdict in failing for check in checks) else 0


def _write(path: Path, text: str) -> None:
    from harness.records.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
