"""Published claims against stored results: which hold, which do not, and of which the data cannot tell.

Every verdict is computed from the utterances of finished runs; see `harness.stats.claims`. A claim whose run or cells
are not there is listed as not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from backends.core.commands import command_parser
from harness._command import run_command
from harness.errors import ConfigError, DataError
from harness.report.claims import as_json, as_markdown, as_table
from harness.report.claims._file import load_claims
from harness.report.claims._tested import Tested, tested

CLAIMS = Path("experiments/claims.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "harness.claims", __doc__, ["", "experiments/claims.toml --markdown"], done="every claim has its verdict"
    )
    parser.add_argument("file", nargs="?", type=Path, default=CLAIMS, help=f"file of claims; default: {CLAIMS}")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON: effects and margins are fractions")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def _run(options: argparse.Namespace) -> int:
    results = claims_of(options.file)
    if options.json:
        print(json.dumps(as_json(results), indent=1))
    elif options.markdown:
        print(as_markdown(results))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        console.print(as_table(results))
    return 0


def claims_of(file: Path) -> list[Tested]:
    """The claims of a file with their verdicts.

    Raises:
        ConfigError: the file or a claim of it is not as it should be; names file and claim.
        DataError: what a claim compares is not comparable.
        OutputError: a run is not what was written.
    """
    claims = load_claims(file)
    try:
        return tested(claims)
    except (ConfigError, DataError) as error:
        raise type(error)(f"{file}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
