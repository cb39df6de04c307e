"""What is written where nobody speaks, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.complete import listed
from harness.report.numbers import fixed, more_words
from harness.stats import Study

Row = Mapping[str, Any]


def unspoken(study: Study) -> list[str]:
    """For each model and test set without words what full precision writes, and what quantization changes.

    A change is told where its 95 % interval leaves 0 out, each for itself. Empty where words are said everywhere.
    """
    rows = [row for row in study.rows if _is_number(row.get("hallucinated_per_minute"))]
    places = dict.fromkeys((row["model"], row["split"]) for row in rows)
    return [
        sentence
        for place in places
        for sentence in _of_model([row for row in rows if (row["model"], row["split"]) == place])
    ]


def _of_model(rows: Sequence[Row]) -> list[str]:
    compared = [row for row in rows if _is_number(row["hallucinated_low"])]
    told = [
        f"{row['model']} in full precision writes {fixed(row['hallucinated_per_minute'])} words a minute on "
        f"{row['split']}, where nobody speaks, and something in {row['hallucinated_share']:.0%} of the recordings."
        for row in rows
        if row["backend"] == "none"
    ]
    if not compared:
        return told
    compared.sort(key=lambda row: -abs(row["hallucinated_difference"]))
    more = [row for row in compared if row["hallucinated_low"] > 0]
    fewer = [row for row in compared if row["hallucinated_high"] < 0]
    rest = len(compared) - len(more) - len(fewer)
    found = [f"{what}: {listed([*map(_named, some)])}." for what, some in (("More", more), ("Fewer", fewer)) if some]
    found += [f"Not shown to differ: {rest} of {len(compared)}."] if rest else []
    return [*told, f"Quantized, in words a minute. {' '.join(found)}"]


def _named(row: Row) -> str:
    return f"{row['configuration']} {more_words(row)}"


def _is_number(value: float | None) -> bool:
    return value is not None and value == value
