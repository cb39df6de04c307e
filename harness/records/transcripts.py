"""Transcripts of systems that we did not run: hypothesis files as samples for the statistics.

Two forms are read: `id<TAB>text`, with the speaker in a third column if there is one, and sclite's `trn`,
`text (id)`. Without a column the speaker is the part of the id before its first `-`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness._printing import counted
from harness.errors import DataError
from harness.metrics import Scorer
from harness.stats import Sample

_TRN = re.compile(r"(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)\s*")
_HEADER = ["id", "text"]


@dataclass(frozen=True)
class Line:
    """One utterance of a file; `speaker` is `None` where no column names it."""

    id: str
    text: str
    speaker: str | None


def read_transcripts(path: Path) -> dict[str, Line]:
    """The utterances of a file by id, in its order. A first line `id<TAB>text` is a heading.

    Raises:
        DataError: names the file, the line and the mend.
    """
    try:
        lines = [line.removesuffix("\r") for line in path.read_bytes().decode("utf-8-sig").split("\n")]
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of transcripts") from None
    except IsADirectoryError:
        raise DataError(f"{path}: it is a directory; name a file of transcripts") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    found: dict[str, Line] = {}
    for number, line in _parsed(path, lines):
        if line.id in found:
            raise DataError(f"{path}, line {number}: utterance {line.id} is there a second time; remove one")
        found[line.id] = line
    if not found:
        raise DataError(f"{path}: there are no utterances; write one a line, as id<TAB>text or text (id)")
    return found


def _parsed(path: Path, lines: list[str]) -> Iterator[tuple[int, Line]]:
    written = [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith(";;")]
    tabbed = any("\t" in line for _, line in written)
    width = len(written[0][1].split("\t")) if written else 0
    for number, line in written:
        where = f"{path}, line {number}"
        if not tabbed:
            yield number, _trn_line(line, where)
        elif (number, line) != written[0] or line.split("\t")[:2] != _HEADER:
            yield number, _tab_line(line, where, width)


def _tab_line(line: str, where: str, width: int) -> Line:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) not in (2, 3) or not fields[0]:
        raise DataError(
            f"{where}: write id<TAB>text or id<TAB>text<TAB>speaker; it has {counted(len(fields), 'field')}"
        )
    if len(fields) != width:
        raise DataError(
            f"{where}: it has {counted(len(fields), 'field')} and the first line {width}; take tabs out of texts, or "
            "name the speaker in every line"
        )
    return Line(fields[0], fields[1], fields[2] if len(fields) == 3 else None)


def _trn_line(line: str, where: str) -> Line:
    match = _TRN.fullmatch(line)
    if match is None:
        raise DataError(f"{where}: neither id<TAB>text nor text (id)")
    if re.search(r"\{[^{}]*/[^{}]*\}", match["text"]):
        raise DataError(f"{where}: alternatives such as {{a / b}} are not scored here; keep one of them")
    return Line(match["id"], match["text"], None)


def read_sample(reference: Path, hypothesis: Path, scorer: Scorer) -> Sample:
    """Score a file of hypotheses against a file of references; speakers are the references'.

    Raises:
        DataError: a file cannot be read, or the two are not of the same utterances.
    """
    expected, found = read_transcripts(reference), read_transcripts(hypothesis)
    _check_same(expected, found, reference, hypothesis)
    return Sample.from_rows(_scored(line, found[name].text, scorer) for name, line in expected.items())


def _check_same(expected: dict[str, Line], found: dict[str, Line], reference: Path, hypothesis: Path) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise DataError(
            f"{hypothesis}: lacks {len(missing)} of the {len(expected)} utterances of {reference}, such as "
            f"{missing[0]}; write an empty text where nothing was transcribed"
        )
    strangers = [name for name in found if name not in expected]
    if strangers:
        raise DataError(
            f"{hypothesis}: has {counted(len(strangers), 'utterance')} that {reference} lacks, such as {strangers[0]}; "
            "remove them"
        )


def _scored(line: Line, text: str, scorer: Scorer) -> Mapping[str, Any]:
    """A line as the row of a stored utterance."""
    speaker = line.speaker or (line.id.partition("-")[0] if "-" in line.id else None)
    return {"id": line.id, "speaker": speaker, **scorer.scores(line.text, text)}
