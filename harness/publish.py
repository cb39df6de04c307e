"""Publish a run: write what its results need, and no more, into a directory that can be committed.

`harness.report`, `figures`, `compare` and `verify` read it as they read the run, without a model and without the
network. Of an unfinished run it says what is missing; `python -m harness.grid FILE --from DIRECTORY` does the rest.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backends.core.commands import command_parser
from harness._command import run_command
from harness._printing import counted
from harness.errors import OutputError
from harness.experiment.tables import is_local
from harness.records.files import is_temporary, sync, temporary_beside, writing
from harness.records.published import ABOUT, CHECKSUMS, is_published

if TYPE_CHECKING:
    from harness.records.reading import RecordedRun


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = command_parser(
        "harness.publish",
        __doc__,
        ["runs/embedded experiments/results/embedded", "runs/mine published --card my-quantized-whisper"],
        done="it is published",
    )
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/embedded")
    parser.add_argument("directory", type=Path, help="where to write, such as experiments/results/embedded")
    parser.add_argument("--card", type=Path, metavar="MODEL_DIR", help="write the card of a saved model of the run")
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options.run, options.directory, options.card), "interrupted: nothing was published")


def _run(run: Path, directory: Path, model: Path | None) -> int:
    from harness.records.reading import missing, open_run
    from harness.report.unfinished import unfinished_sentence

    publish(run, directory)
    written = open_run(directory)
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{directory}: {counted(len(written.results()), 'cell')}, {size / 1e6:.2f} MB")
    places = missing(written)
    if places:
        print(unfinished_sentence(written, places))
    if model is not None:
        for path in _write_card(written, model):
            print(path)
    return 0


def _write_card(run: RecordedRun, directory: Path) -> list[Path]:
    """The card of a saved model with what the published run measured of it; and what the Open ASR Leaderboard takes."""
    from backends.core.card import card_of, updated_card, write_card
    from harness.report import leaderboard
    from harness.report.card import measured

    model, evaluated, entries = measured(run, directory)
    earlier = updated_card(directory, "", "")
    known = ("", "") if earlier is None else (earlier.data.base_model or "", earlier.data.license or "")
    base_model = model.path if "/" in model.path and not is_local(model.path) else known[0]
    written = [write_card(directory, card_of(directory, base_model, model.license or known[1], evaluated))]
    return [*written, leaderboard.write(directory, entries)] if entries else written


def publish(run: Path, directory: Path) -> None:
    """Write the published form of a run, whole or not at all; one that is there already is replaced as a whole.

    Raises:
        OutputError: something else is there, the run is not what was written, or there is no room.
    """
    from harness.records.publishing import Publication
    from harness.records.reading import open_run

    _check_place(directory)
    publication = Publication.of(open_run(run))
    _put(directory, publication.write)


def _check_place(directory: Path) -> None:
    """Refuse a place where something is that `publish` did not write."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise OutputError(f"{directory}: it is a file; name a directory to publish in")
    names = {path.name for path in directory.iterdir()}
    if not names:
        return
    listed = {ABOUT, CHECKSUMS}
    if is_published(directory) and (directory / CHECKSUMS).is_file():
        text = (directory / CHECKSUMS).read_text(encoding="utf-8", errors="replace")
        listed |= {line.partition("  ")[2] for line in text.splitlines()}
        names -= listed
    if names:
        raise OutputError(
            f"{directory}: there is something that was not published, {min(names)}; move it, or name another place"
        )


def _put(directory: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory under another name, then give it its own."""
    temporary, aside = temporary_beside(directory), temporary_beside(directory)
    try:
        with writing(directory):
            temporary.mkdir(parents=True)
            fill(temporary)
            if directory.exists():
                directory.rename(aside)
            temporary.rename(directory)
            sync(directory.parent)
    except BaseException:
        if aside.exists() and not directory.exists():
            aside.rename(directory)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for path in directory.parent.glob(f".{directory.name}-*"):  # also of one that was killed
        if is_temporary(path):
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
