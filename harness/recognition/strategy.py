"""The choice between plain and speculative decoding, by the time that each takes."""

from __future__ import annotations

from typing import Literal

Way = Literal["plain", "draft"]


class Strategy:
    """Chooses how the next batch is decoded.

    Args:
        asked: `plain`, `draft`, or `auto`: the first batch plainly, the second with drafts, and all others in the way
            that took less time for a token. Later batches change nothing: they are shorter, and cost more for a token.
    """

    def __init__(self, asked: Literal["auto", "plain", "draft"]) -> None:
        self._asked = asked
        self._pace: dict[Way, float] = {}

    def way(self, *, possible: bool) -> Way:
        """The way of the next batch; `possible` says whether it has drafts."""
        if not possible or self._asked == "plain":
            return "plain"
        if self._asked == "draft":
            return "draft"
        for way in ("plain", "draft"):
            if way not in self._pace:
                return way  # type: ignore[return-value]
        return min(self._pace, key=self._pace.__getitem__)

    def took(self, way: Way, seconds: float, tokens: int) -> None:
        """What a batch took that was decoded so, in the decoder: the encoder takes the same time either way."""
        self._pace.setdefault(way, seconds / max(tokens, 1))
