"""A board: what several runs found, in one table with filters; one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.errors import OutputError
from harness.records.reading import RecordedRun
from harness.report.numbers import fixed, percent
from harness.report.page._assets import environment
from harness.report.page._run import PageRun, Row
from harness.report.page._table import Entry, as_good, difference
from harness.stats import MARGIN

_SCRIPTS = ("dom", "filters", "table", "board")
_TIMED = "s of audio a second, timed"
_FILTERS: Mapping[str, Callable[[Row], str]] = {
    "model": lambda row: str(row["model"]),
    "engine": lambda row: str(row["backend"]),
    "language": lambda row: str(row["language"]),
    "split": lambda row: str(row["split"]),
}


class BoardRow(NamedTuple):
    """One result: what the filters ask for, its size in MB, and its entries under the columns."""

    label: str
    filters: Mapping[str, str]
    size: float
    entries: Sequence[Entry]


class _Column(NamedTuple):
    heading: str
    numeric: bool
    entry: Callable[[PageRun, Row], Entry]


def _text(key: str) -> Callable[[PageRun, Row], Entry]:
    return lambda run, row: Entry(str(row[key]), str(row[key]))


def _number(key: str, shown: Callable[[Row], str]) -> Callable[[PageRun, Row], Entry]:
    return lambda run, row: Entry(shown(row), row.get(key))


_COLUMNS = (
    _Column("model", False, _text("model")),
    _Column("test set", False, _text("split")),
    _Column("utterances", True, _number("utterances", lambda row: f"{int(row['utterances']):,}")),
    _Column("WER (or CER), %", True, _number("wer", lambda row: percent(row["wer"]))),
    _Column("difference, points", True, _number("difference", difference)),
    _Column("as good?", False, _number("non_inferior", as_good)),
    _Column("size, MB", True, _number("size_bytes", lambda row: fixed(row["size_bytes"] / 1e6))),
    _Column("saved, %", True, _number("size_reduction", lambda row: percent(row["size_reduction"], 1))),
    _Column(_TIMED, True, _number("timed_rtfx", lambda row: fixed(row.get("timed_rtfx"), 1))),
    _Column("run", False, lambda run, row: Entry(run.name, run.name)),
)


def render_board(stored: Iterable[RecordedRun]) -> str:
    """The page as text, the most precise results of each test set first.

    Raises:
        OutputError: a run has no results, they cannot be read, or none is finished.
    """
    runs = [PageRun.of(each) for each in stored]
    rows = [(run, row) for run in runs for row in run.study.scored]
    if not rows:
        raise OutputError("no configuration of these runs is finished, so there is nothing to show")
    rows.sort(key=lambda pair: (pair[1]["split"], pair[1]["wer"], pair[1]["size_bytes"]))
    columns = [c for c in _COLUMNS if c.heading != _TIMED or any(row.get("timed_rtfx") is not None for _, row in rows)]
    return (
        environment(_SCRIPTS)
        .get_template("board.html")
        .render(
            runs=[run.name for run in runs],
            margin=MARGIN,
            columns=columns,
            filters=_choices([row for _, row in rows]),
            rows=[_row(run, row, columns) for run, row in rows],
        )
    )


def _choices(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The levels of the filters that have a choice."""
    levels = {name: sorted({level(row) for row in rows}) for name, level in _FILTERS.items()}
    return {name: found for name, found in levels.items() if len(found) > 1}


def _row(run: PageRun, row: Row, columns: Sequence[_Column]) -> BoardRow:
    return BoardRow(
        str(row["configuration"]),
        {name: level(row) for name, level in _FILTERS.items()},
        row["size_bytes"] / 1e6,
        [column.entry(run, row) for column in columns],
    )
