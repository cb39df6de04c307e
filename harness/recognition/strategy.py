"""The choice between plain and speculative decoding, by the time that each takes."""

from __future__ import annotations

from typing import Literal

Way = Literal["plain", "draft"]
_MARGIN = 0.02
"""Share by which plain decoding must be faster before it is preferred."""


class Strategy:
    """Chooses how the next batch is decoded.

    Args:
        asked: `plain`, `draft`, or `auto`: drafts, which are nearly always faster, until those taken together have
            cost more than plain decoding would have: its steps times what a step costs, which is measured once.
    """

    def __init__(self, asked: Literal["auto", "plain", "draft"]) -> None:
        self._asked = asked
        self._pace: float | None = None
        self._drafted = self._plain = 0.0

    def way(self, *, possible: bool) -> Way:
        """The way of the next batch; `possible` says whether it has drafts."""
        if not possible or self._asked == "plain":
            return "plain"
        slower = self._plain < (1 - _MARGIN) * self._drafted
        return "plain" if self._asked == "auto" and slower else "draft"

    @property
    def lacks_pace(self) -> bool:
        """Whether it has to be told what a step of plain decoding costs."""
        return self._asked == "auto" and self._pace is None

    def paced(self, seconds: float) -> None:
        """What one step of plain decoding costs, for a whole batch."""
        self._pace = seconds

    def took(self, way: Way, seconds: float, steps: int) -> None:
        """What a batch took that was decoded so, in the decoder, and the steps that plain decoding has."""
        if way == "draft" and self._pace is not None:
            self._drafted += seconds
            self._plain += self._pace * steps
