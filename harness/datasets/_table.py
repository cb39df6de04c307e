"""Users' tables of recordings and texts, read as they stand: what would have to be guessed is refused with its row.

Every line is a row; lines end at line feeds. A row has the fields of the heading, no more and no less. Which delimiter
a table has, and which of its columns are meant, is taken from the heading where only one reading is possible.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets._base import read_transcript
from harness.errors import DataError

FILE_NAME, TEXT, SPEAKER, LANGUAGE = "file_name", "text", "speaker", "language"
_SPELLINGS: Mapping[str, Sequence[str]] = {
    FILE_NAME: ("filename", "file", "path", "audio", "audio_file", "audio_path", "audio_filepath", "wav"),
    TEXT: ("transcription", "transcript", "sentence", "reference"),
    SPEAKER: ("speaker_id", "client_id", "spk", "spk_id"),
    LANGUAGE: ("lang", "locale"),
}
"""What else columns are called."""
_DELIMITERS: Mapping[str, str] = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a pipe"}
_NO_TEXT = ("nan", "NaN", "<NA>")
"""What pandas and others write where there is none."""


class Record(NamedTuple):
    """A row: where it stands, and its fields by column (`file_name`, `text`, perhaps `speaker` and `language`)."""

    where: str
    fields: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A field that must be text.

        Raises:
            DataError: it is another JSON value, or no text but a sign that there is none.
        """
        value = self.fields[column]
        if not isinstance(value, str):
            raise DataError(
                f"{self.where}: {column} is {json.dumps(value)}, not text; write it in quotes, or correct it"
            )
        if value.strip() in _NO_TEXT:
            raise DataError(
                f"{self.where}: {column} is {value.strip()}, which stands for nothing; leave it empty, or put a full "
                "stop behind it if it is a word"
            )
        return value

    @property
    def speaker(self) -> str | None:
        """Who speaks, where it is said; a number is a name too.

        Raises:
            DataError: it is neither text nor a whole number.
        """
        value = self.fields.get(SPEAKER)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"{self.where}: {SPEAKER} is {json.dumps(value)}; write a name or a whole number")
        return str(value)

    @property
    def language(self) -> str | None:
        """The code of what is spoken, where it is said; what follows it (`zh-CN`, `hi_in`) says nothing here.

        Raises:
            DataError: it is no code.
        """
        value = self.fields.get(LANGUAGE)
        if value is None or value == "":
            return None
        found = re.fullmatch(r"([a-z]{2,3})([-_].*)?", value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            raise DataError(f"{self.where}: {LANGUAGE} is {json.dumps(value)}; write its code, such as en or yue")
        return found[1]


def respelled(record: Record, *columns: str) -> Record:
    """The record with these columns under their own names, however they are spelled; the rest as it is.

    Raises:
        DataError: there are two spellings of one.
    """
    found = dict(record.fields)
    for column in columns:
        own = [name for name in (column, *_SPELLINGS[column]) if found.get(name) not in (None, "")]
        if len(own) > 1:
            raise DataError(f"{record.where}: {' and '.join(own)} could each be {column}; remove one")
        if own:
            found[column] = found.pop(own[0])
    return Record(record.where, found)


def read_csv(path: Path) -> list[Record]:
    """The rows of a delimited table with a heading; fields in double quotes may hold the delimiter, and no line feed.

    Raises:
        DataError: with the row and the mend.
    """
    lines = _table_lines(path)
    delimiter = _delimiter(path, lines[0][1])
    mend = f"put a text that holds {_DELIMITERS[delimiter]} in double quotes"
    return _records(path, lines, lambda number, line: _fields(path, number, line, delimiter), mend)


def read_tsv(path: Path) -> list[Record]:
    """The rows of a table with tabs and a heading, in which a double quote is a letter.

    Raises:
        DataError: with the row and the mend.
    """
    return _records(path, _table_lines(path), lambda _, line: line.split("\t"), "take tabs out of texts")


def _table_lines(path: Path) -> list[tuple[int, str]]:
    """Those of a table, the heading first."""
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path}: the transcript file is empty")
    return lines


def _records(
    path: Path, lines: Sequence[tuple[int, str]], fields_of: Callable[[int, str], list[str]], mend: str
) -> list[Record]:
    """The rows behind the heading, each with as many fields as that."""
    heading = fields_of(1, lines[0][1])
    names = _columns(path, heading)
    records = []
    for number, line in lines[1:]:
        fields, where = fields_of(number, line), f"{path}, line {number}"
        if len(fields) != len(heading):
            raise DataError(f"{where}: it has {len(fields)} fields and the heading {len(heading)}; {mend}")
        for name, field in zip(heading, fields, strict=True):
            if not name.strip() and field.strip():
                raise DataError(f"{where}: {field.strip()!r} stands in a column without a name; name it in the heading")
        records.append(Record(where, {name: fields[place] for name, place in names.items()}))
    return records


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not blank, numbered from 1."""
    lines = read_transcript(path).split("\n")
    return [(number, line.removesuffix("\r")) for number, line in enumerate(lines, 1) if line.strip()]


def _fields(path: Path, number: int, line: str, delimiter: str) -> list[str]:
    if "\r" in line:
        raise DataError(f"{path}, line {number}: there is a carriage return in it; lines end at line feeds")
    try:
        (fields,) = csv.reader([line], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        raise DataError(
            f'{path}, line {number}: a double quote is not closed, or text follows a closed one; write " in a field as '
            '"" and the whole field in double quotes'
        ) from None
    return fields


def _delimiter(path: Path, heading: str) -> str:
    """The one with which the heading has the columns that are needed."""
    fitting = []
    for delimiter in _DELIMITERS:
        try:
            found = set(_columns(path, _fields(path, 1, heading, delimiter)))
        except DataError:
            continue
        if {FILE_NAME, TEXT} <= found:
            fitting.append(delimiter)
    if len(fitting) == 1:
        return fitting[0]
    best = max(_DELIMITERS, key=heading.count)
    _columns(path, _fields(path, 1, heading, best))
    raise DataError(f"{path}: the heading can be read in several ways: separate its columns by commas")


def _columns(path: Path, heading: Sequence[str]) -> dict[str, int]:
    """The places of the columns, by what they are called here.

    Raises:
        DataError: a column is there twice, or one that is needed is not found or could be several.
    """
    plain = [name.strip().casefold().replace(" ", "_").replace("-", "_") for name in heading]
    doubled = [name for name, count in Counter(plain).items() if name and count > 1]
    if doubled:
        raise DataError(f"{path}: the column {doubled[0]} is there twice; name each once")
    return {name: plain.index(own) for name, own in chosen(str(path), plain).items()}


def chosen(where: str, there: Sequence[str]) -> dict[str, str]:
    """Which of the columns there are `file_name`, `text`, `speaker` and `language`, the last two where there are any.

    Raises:
        DataError: one that is needed is not found or could be several.
    """
    found = {}
    for name, others in _SPELLINGS.items():
        own = [name] if name in there else [other for other in others if other in there]
        if len(own) > 1:
            raise DataError(f"{where}: {' and '.join(own)} could each be {name}; call the one that is meant {name}")
        if own:
            found[name] = own[0]
        elif name not in (SPEAKER, LANGUAGE):
            near = difflib.get_close_matches(name, [n for n in there if n], n=1, cutoff=0.5)
            meant = f"; is {near[0]!r} meant? Call it {name}" if near else ""
            known = ", ".join(filter(None, there)) or "empty ones"
            raise DataError(f"{where}: there is no column {name}; the first line has {known}{meant}")
    return found


def read_json_lines(path: Path) -> list[Record]:
    """The rows of a table with a JSON object in every line.

    Raises:
        DataError: with the row and the mend.
    """
    records = []
    for where, row in json_objects(path):
        names = chosen(where, [key for key, value in row.items() if value is not None])
        records.append(Record(where, {name: row[own] for name, own in names.items()}))
    return records


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON object of every line, with where it stands."""
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        yield where, _json(where, line)


def _json(where: str, line: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        doubled = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if doubled:
            raise DataError(f"{where}: the key {doubled[0]} is there twice; name each once")
        return dict(pairs)

    try:
        row = json.loads(line, object_pairs_hook=once)
    except ValueError as error:
        raise DataError(f"{where}: it is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f'{where}: it is no JSON object; write {{"file_name": "a.wav", "text": "..."}}')
    return row
