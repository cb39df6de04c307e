"""Numbers as people read them; what is missing is a dash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def fixed(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """With so many digits behind the point; a zero has no sign.

    >>> fixed(-0.0012), fixed(1.5, 1, sign=True), fixed(-2), fixed(None)
    ('0.00', '+1.5', '−2.00', '–')
    """
    if value is None or value != value:
        return DASH
    rounded = round(value, digits) or 0.0
    text = f"{rounded:+.{digits}f}" if sign and rounded else f"{rounded:.{digits}f}"
    return text.replace("-", MINUS)


def percent(fraction: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A fraction in per cent, without the sign `%`: units stand in the headings.

    >>> percent(0.02584)
    '2.58'
    """
    return fixed(None if fraction is None else fraction * 100, digits, sign=sign)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Two fractions in per cent, in brackets; a dash where there is no interval.

    >>> interval(-0.001, 0.02, sign=True)
    '[−0.10, +2.00]'
    """
    if low is None or high is None or low != low or high != high:
        return DASH
    return f"[{percent(low, sign=sign)}, {percent(high, sign=sign)}]"


def points_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A difference in points of WER with its interval, where it has one.

    >>> points_interval(0.001, None, None)
    '+0.10'
    """
    if value is None or value != value:
        return DASH
    around = interval(low, high, sign=True)
    return percent(value, sign=True) + ("" if around == DASH else f" {around}")


def more_words(row: Mapping[str, Any]) -> str:
    """Words a minute beyond full precision's where nothing is said, with their interval; empty without such a number.

    >>> more_words({"hallucinated_difference": 3.0, "hallucinated_low": 2.0, "hallucinated_high": 4.0})
    '+3.00 [+2.00, +4.00]'
    """
    more, low, high = (row.get(f"hallucinated_{key}") for key in ("difference", "low", "high"))
    if more is None or more != more:
        return ""
    return fixed(more, sign=True) + (
        f" [{fixed(low, sign=True)}, {fixed(high, sign=True)}]" if low is not None and low == low else ""
    )


def beside_baseline(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where a row's error rate lies beside full precision's: that rate as it was measured plus the paired interval.

    The interval of the rate itself is wide since speakers differ; this says what quantizing does to it. `None` where
    there is no difference with an interval, as of full precision.

    >>> beside_baseline({"wer": 0.06, "difference": 0.01, "difference_low": -0.01, "difference_high": 0.03})
    (0.04, 0.08)
    """
    low, high = row.get("difference_low"), row.get("difference_high")
    if low is None or high is None or low != low or high != high:
        return None
    baseline = row["wer"] - row["difference"]
    return round(baseline + low, 12), round(baseline + high, 12)


def probability(p: float | None) -> str:
    """A p-value; tiny ones as a bound.

    >>> probability(0.0004), probability(0.0076), probability(1.0)
    ('<0.001', '0.008', '1.000')
    """
    return "<0.001" if p is not None and p < 0.001 else fixed(p, 3)


def duration(seconds: float) -> str:
    """How long something takes, in the units in which people plan.

    >>> duration(0.447), duration(41), duration(1_000), duration(9_590), duration(200_000)
    ('0.45 s', '41 s', '17 min', '2 h 40 min', '2 d 7 h')
    """
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
