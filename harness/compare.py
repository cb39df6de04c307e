"""Compare two cells of a run, or any two systems by their transcripts.

A cell is named by the beginning of its id, or as "configuration @ split". Differences are the first minus the
second. Files have one utterance a line, `id<TAB>text[<TAB>speaker]` or sclite's `text (id)`; without a column the
speaker is the part of the id before its first "-", as LibriSpeech has it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from backends.core.commands import command_parser
from harness._command import run_command
from harness.errors import ConfigError
from harness.metrics import AUTO, NORMALIZERS, Scorer
from harness.records.reading import open_run, study_of
from harness.report.comparison import as_json, as_text, strata_table
from harness.report.strata import Stratum, strata
from harness.report.units import Unit, unit_of
from harness.stats import Sample, Study, compare


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.show < 0:
        raise ConfigError(f"--show is {options.show}; it must be 0 or more")
    names, samples, unit, found = _systems(options)
    comparison = compare(*samples)
    if options.json:
        parts = {"strata": [asdict(stratum) for stratum in found]} if found else {}
        print(json.dumps({**as_json(comparison), **parts}, indent=1))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        if options.ref is not None and options.normalizer is None:
            console.print("words are compared as they are written; --normalizer auto leaves out case and punctuation")
        console.print(as_text(comparison, names, samples, options.show, unit))
        if found:
            console.print(strata_table(found, unit))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "harness.compare",
        __doc__,
        ["runs/embedded CELL CELL", "--ref reference.tsv a.tsv b.trn --normalizer none"],
        done="they were compared",
    )
    parser.add_argument(
        "systems", nargs="+", metavar="RUN CELL CELL | A B", help="a run and two of its cells; or files"
    )
    parser.add_argument("--ref", type=Path, help="file of references; A and B are then files of hypotheses")
    parser.add_argument(
        "--normalizer",
        choices=(AUTO, *NORMALIZERS),
        help="of files: none (default) compares words as they are; auto as experiments do, by the language",
    )
    parser.add_argument(
        "--error-unit",
        choices=(AUTO, "word", "character"),
        help="of files: what is counted; auto (default) is the word unless the language does not separate any",
    )
    parser.add_argument("--language", metavar="CODE", help="of files, such as ja; default: en")
    parser.add_argument("--json", action="store_true", help="print JSON: rates are fractions")
    parser.add_argument("--show", type=int, default=10, metavar="N", help="how many differing utterances; default 10")
    return parser


Systems = tuple[list[str], list[Sample], Unit, list[Stratum]]


def _systems(options: argparse.Namespace) -> Systems:
    if options.ref is not None:
        scorer = Scorer(options.normalizer or "none", options.error_unit or AUTO, options.language or "en")
        return _from_files(options.ref, options.systems, scorer)
    for key in ("normalizer", "error_unit", "language"):
        if getattr(options, key) is not None:
            flag = f"--{key.replace('_', '-')}"
            raise ConfigError(f"{flag} is for files (--ref); cells were scored when they were made")
    if len(options.systems) != 3:
        raise ConfigError("name a run and two cells, as in runs/embedded CELL CELL; or files, with --ref REFERENCE A B")
    if Path(options.systems[0]).is_file():
        raise ConfigError(f"{options.systems[0]}: it is a file; files are compared with --ref REFERENCE A B")
    return _from_run(Path(options.systems[0]), options.systems[1:])


def _from_files(reference: Path, files: Sequence[str], scorer: Scorer) -> Systems:
    from harness.records.transcripts import read_sample

    if len(files) != 2:
        raise ConfigError(
            f"--ref takes two files of hypotheses, A and B; there {'is 1' if len(files) == 1 else f'are {len(files)}'}"
        )
    samples = [read_sample(reference, Path(file), scorer) for file in files]
    return list(files), samples, unit_of([{"error_unit": scorer.unit()}]), []


def _from_run(path: Path, names: Sequence[str]) -> Systems:
    run = open_run(path)
    study = study_of(run)
    rows = [_cell(study, name, path) for name in names]
    called = [f"{row['configuration']} @ {row['split']}" for row in rows]
    own, theirs = (run.utterances(row["cell_id"]) for row in rows)
    same = {row["id"] for row in own} == {row["id"] for row in theirs}
    found = strata(own, theirs) if same else []
    return called, [study.sample(row["cell_id"]) for row in rows], unit_of(rows), found


def _cell(study: Study, name: str, path: Path) -> dict[str, str]:
    """The finished row that `name` means."""
    found = [row for row in study.rows if name in (row["configuration"], f"{row['configuration']} @ {row['split']}")]
    found = found or [row for row in study.rows if row["cell_id"].startswith(name)]
    if len(found) == 1:
        return dict(found[0])
    if found:
        raise ConfigError(
            f"{path}: {name!r} names {len(found)} cells; write more of the id, or the split, as in "
            f"{found[0]['cell_id']} ({found[0]['configuration']} @ {found[0]['split']})"
        )
    called = {f"{row['configuration']} @ {row['split']}": row["cell_id"] for row in study.rows}
    near = difflib.get_close_matches(name, called, n=3, cutoff=0.3) or list(called)[:3]
    shown = "; ".join(f"{called[place]} ({place})" for place in near)
    if len(called) > len(near):
        shown += f"; and {len(called) - len(near)} more"
    raise ConfigError(f"{path}: no finished cell is called {name!r}; there are {shown or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
