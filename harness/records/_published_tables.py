"""The tables of a published run: what many rows share is written once, and equal rows stand side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import OutputError
from harness.metrics import Scorer
from harness.records._paths import Paths
from harness.records.published import DERIVED

_LEVEL = 19
"""Of zstd: a run is published once and fetched often."""
_PAGE = 1 << 24
"""Bytes of a page. Repetitions are found within one only."""
Row = Mapping[str, Any]


def numbered(known: dict[str, int], value: Any) -> int | None:
    """The number of a value among those that are known, which it joins; `None` for an empty one."""
    if not value:
        return None
    return known.setdefault(json.dumps(value, sort_keys=isinstance(value, Mapping)), len(known))


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows that may lack columns; nothing where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not rows:
        return
    columns = dict.fromkeys(key for row in rows for key in row)
    table = pa.table({key: pa.array([row.get(key) for row in rows]) for key in columns})
    pq.write_table(
        table, path, compression="zstd", compression_level=_LEVEL, data_page_size=_PAGE, row_group_size=len(rows)
    )


class Utterances:
    """The utterances of all cells, cell by cell, until they are written.

    Args:
        scorer_of: how the utterances of a test set are scored.
        paths: what no reason may name.
    """

    def __init__(self, scorer_of: Callable[[str], Scorer], paths: Paths) -> None:
        self._scorer_of = scorer_of
        self._scorers: dict[str, Scorer] = {}
        self._paths = paths
        self._rows: list[dict[str, Any]] = []
        self._dropped: dict[str, None] = {}
        self._scored: dict[tuple[str, str | None, str, str], Row] = {}
        self._splits: dict[str, int] = {}

    @property
    def dropped(self) -> list[str]:
        """Columns that are left out: numbers for every token, which are more than all the rest."""
        return list(self._dropped)

    def add(self, cell: int, split: str, rows: Sequence[Row]) -> list[str]:
        """Take the rows of one cell; returns the columns that its rows have when they are read.

        Raises:
            OutputError: what follows from a transcript is not what is stored.
        """
        self._splits.setdefault(split, len(self._splits))
        columns = dict.fromkeys(key for row in rows for key in row)
        for key in columns:
            if any(isinstance(row[key], list) and any(isinstance(v, float) for v in row[key]) for row in rows):
                self._dropped.setdefault(key)
        for position, row in enumerate(rows):
            self._check(split, row)
            own = {key: value for key, value in row.items() if key not in DERIVED}
            if own.get("error"):
                own["error"] = self._paths.text(own["error"])
            self._rows.append({"split": split, "cell": cell, "position": position, **own})
        return [key for key in columns if key not in self._dropped]

    @property
    def spellings(self) -> bytes:
        """The table that English was normalised with; empty where there was none."""
        return next((table for scorer in self._scorers.values() if (table := scorer.spellings)), b"")

    def _check(self, split: str, row: Row) -> None:
        """Make sure that the columns which are left out come back as they are."""
        stored = {key: row[key] for key in DERIVED if key in row}
        if not stored:
            return
        if split not in self._scorers:
            self._scorers[split] = self._scorer_of(split)
        key = split, row.get("language"), row["reference"], row["hypothesis"]
        if key not in self._scored:
            self._scored[key] = self._scorers[split].scores(row["reference"], row["hypothesis"], row.get("language"))
        wrong = [name for name, value in stored.items() if self._scored[key][name] != value]
        if wrong:
            raise OutputError(
                f"utterance {row['id']}: {', '.join(wrong)} does not follow from reference and hypothesis here; "
                "publish with the version of transformers that it was measured with, after python -m harness.verify"
            )

    def write(self, directory: Path) -> None:
        """Write `references.parquet` and `utterances.parquet`, equal utterances of all cells side by side."""
        rows = sorted(self._rows, key=lambda row: (self._splits[row["split"]], row["id"], row["cell"]))
        varying = self._varying(rows)
        references: dict[tuple[str, str], dict[str, Any]] = {}
        own = []
        for row in rows:
            kept = {key: value for key, value in row.items() if key not in self._dropped}
            shared = {key: value for key, value in kept.items() if key not in varying}
            references.setdefault((row["split"], row["id"]), {}).update(shared)
            own.append({key: kept[key] for key in kept if key in varying or key in ("id", "cell")})
        write_table(directory / "references.parquet", list(references.values()))
        write_table(directory / "utterances.parquet", own)

    def _varying(self, rows: Sequence[Row]) -> set[str]:
        """Columns in which cells differ for one utterance."""
        known: dict[tuple[str, str], dict[str, Any]] = {}
        varying = {"cell"}
        for row in rows:
            first = known.setdefault((row["split"], row["id"]), {})
            for key, value in row.items():
                before = first.setdefault(key, value)
                if before != value and (before == before or value == value):
                    varying.add(key)
        return varying
