"""The Pareto frontier of size, or of another price, and WER: no other row is both cheaper and has fewer errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def _size(row: Row) -> float:
    return float(row["size_bytes"])


def frontier(rows: Iterable[Row], price: Callable[[Row], float] = _size) -> list[Row]:
    """The rows of one split that no other beats in price, usually size, without losing in WER, cheapest first.

    Compared across models and devices: a quantized small model stands beside a full-precision base. Of
    rows with equal price and WER the first is kept.

    >>> sizes = {"a": (1, 0.5), "b": (2, 0.6), "c": (3, 0.1)}
    >>> rows = [{"name": k, "size_bytes": s, "wer": w} for k, (s, w) in sizes.items()]
    >>> [row["name"] for row in frontier(rows)]
    ['a', 'c']
    """
    found: list[Row] = []
    scored = [row for row in rows if row["wer"] is not None and row["wer"] == row["wer"]]
    for row in sorted(scored, key=lambda r: (price(r), r["wer"])):
        if not found or row["wer"] < found[-1]["wer"]:
            found.append(row)
    return found
