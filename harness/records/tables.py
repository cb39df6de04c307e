"""Rows as files: parquet for programs, CSV for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.records.files import checksums, replacing
from harness.records.layout import Rows


def write_results(rows: Rows, parquet: Path, csv: Path, listing: Path) -> None:
    """Replace the two files of results, then the listing of their checksums.

    Text in the CSV that a spreadsheet would run is quoted.

    Raises:
        OutputError: one cannot be written.
    """
    import pandas

    columns = dict.fromkeys(key for row in rows for key in row)
    frame = pandas.DataFrame({key: _column([row.get(key) for row in rows]) for key in columns})
    with replacing(parquet) as temporary:
        frame.to_parquet(temporary, index=False)
    with replacing(csv) as temporary:
        frame.map(_inert).to_csv(temporary, index=False)
    with replacing(listing) as temporary:
        temporary.write_text(checksums([parquet, csv]), encoding="utf-8")


def write_table(path: Path, rows: Rows) -> None:
    """Write rows to a parquet file, (rows, keys of the first)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def _column(values: list[Any]) -> Any:
    """A pandas column of the values' own type, so that a column has one type whatever a run contains."""
    import pandas

    kinds = {type(value) for value in values if value is not None}
    number = "Int64" if kinds == {int} else "float64"
    dtype = "boolean" if kinds == {bool} else number if kinds and kinds <= {int, float} else "string"
    return pandas.Series(values, dtype=dtype)


def _inert(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, behind an apostrophe (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
