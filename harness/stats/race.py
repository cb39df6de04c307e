"""A race: the best of several configurations on a test set, found on as few of its speakers as it takes.

All candidates are compared on the first few speakers, those that are still possible on about twice as many, and so on,
until the winner is certain; with all speakers it is. Pure: word errors by speaker go in, how things stand comes out.

What is certain is so of the whole test set, from which speakers are drawn without replacement. It rests on one-sided t
bounds, the probability of error divided by all candidates and looks (Bonferroni): as far as these hold, the whole
search errs with a probability of at most 1 - confidence. They cannot know what is very bad on few speakers, none of
whom was drawn so far; experiments/benchmarks/search.txt simulates how often that matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from scipy import stats

from harness.stats.resampling import Values

FEWEST_SPEAKERS = 8
"""Of the first look at least: what is the same on fewer is no certainty."""
_MOST_LOOKS = 5
"""Every look quantizes again."""
_CAP = 0.1
"""Of a speaker's words: more errors beyond another's than that are not counted in a lower bound."""

Errors = Mapping[str, Values]
"""Word errors of every candidate by speaker, in the order of drawing, of as many speakers as it was looked at."""


def looks_of(speakers: int) -> tuple[int, ...]:
    """After how many speakers it is looked: twice as many each time, all at last.

    >>> looks_of(40), looks_of(8), looks_of(1000)
    ((10, 20, 40), (8,), (63, 125, 250, 500, 1000))
    """
    halvings = (math.ceil(speakers / 2**times) for times in range(_MOST_LOOKS))
    return tuple(sorted({count for count in halvings if count >= FEWEST_SPEAKERS}))


@dataclass(frozen=True, eq=False)
class Rules:
    """What all looks have in common.

    Attributes:
        words: of the references by speaker, in the order of drawing, (speakers,).
        looks: after how many speakers it is looked, ascending.
        candidates: how many begin.
        confidence: of the whole search, over candidates and looks.
        tolerance: difference in WER that does not matter, a fraction.
    """

    words: Values
    looks: tuple[int, ...]
    candidates: int
    confidence: float
    tolerance: float

    def lower(self, gaps: Values) -> Values:
        """Lower bounds of differences in WER, (...), from errors beyond another's by speaker, (..., speakers so far).

        The difference itself, once all speakers are there. Before, the t bound of a ratio of sums, with one squared
        word added to the squares, so that a few speakers without any difference are no certainty. A gap is capped at a
        tenth of the speaker's words: that makes the bound lower only in its mean, and keeps the spread of what is
        hopeless from hiding it.

        The last look needs no test, so that the probability of error is divided by one look less.

        Source: Cochran 1977, "Sampling Techniques", 3rd ed., section 2.13 (ratio, and finite population correction).
        """
        count, speakers = gaps.shape[-1], len(self.words)
        words = self.words[:count]
        total = max(words.sum(), 1)
        if count == speakers:
            return gaps.sum(-1) / total
        capped = np.minimum(gaps, _CAP * words)
        rate = capped.sum(-1) / total
        squares = ((capped - rate[..., None] * words) ** 2).sum(-1) + 1
        error = np.sqrt(squares * count / (count - 1) * (1 - count / speakers)) / total
        tests = self.candidates * (len(self.looks) - 1)
        return rate - _t_quantile((1 - self.confidence) / tests, count - 1) * error


@cache
def _t_quantile(tail: float, freedom: int) -> float:
    return float(stats.t.isf(tail, freedom))


@dataclass(frozen=True)
class Standing:
    """How things stand after a look.

    Attributes:
        leader: the best so far, by what was counted; `None` where nothing fits.
        contenders: who is to be looked at further; nobody where the leader is certainly the winner.
        ruled_out: who is certainly not the winner.
        spared: who may be as good, but need not be looked at further.
    """

    leader: str | None
    contenders: tuple[str, ...]
    ruled_out: tuple[str, ...]
    spared: tuple[str, ...]


class Goal(Protocol):
    """What is searched for."""

    @property
    def rules(self) -> Rules:
        """Of the race."""
        ...

    def standing(self, errors: Errors) -> Standing:
        """How things stand."""
        ...


@dataclass(frozen=True)
class MostAccurate:
    """The candidate with the fewest errors, within the tolerance.

    Ruled out is who certainly makes more errors than another; spared, who is certainly not better than the leader by
    more than the tolerance.
    """

    rules: Rules

    def standing(self, errors: Errors) -> Standing:
        """See `Goal`."""
        names, counted = list(errors), list(errors.values())
        beyond = self._beyond(counted)
        worse = set(np.flatnonzero(np.any(beyond > 0, axis=1)))
        possible = [i for i in range(len(names)) if i not in worse]
        if not possible:  # one that came back contradicts an earlier look
            possible = list(range(len(names)))
        furthest = max(len(counted[i]) for i in possible)
        leader = min((i for i in possible if len(counted[i]) == furthest), key=lambda i: counted[i].sum())
        others = [i for i in possible if i != leader]
        spared = [i for i in others if beyond[i, leader] >= -self.rules.tolerance]
        contenders = [i for i in possible if i not in spared] if len(spared) < len(others) else []
        return Standing(
            names[leader],
            tuple(names[i] for i in contenders),
            tuple(names[i] for i in range(len(names)) if i not in possible),
            tuple(names[i] for i in spared),
        )

    def _beyond(self, counted: Sequence[Values]) -> Values:
        """Lower bounds of WER minus another's, the best of all looks that both had, (candidates, candidates)."""
        found = np.full((len(counted), len(counted)), -np.inf)
        for count in self.rules.looks:
            present = [i for i, own in enumerate(counted) if len(own) >= count]
            together = np.array([counted[i][:count] for i in present])
            for i in present:
                bounds = self.rules.lower(counted[i][:count] - together)
                found[i, present] = np.maximum(found[i, present], bounds)
        np.fill_diagonal(found, -np.inf)
        return found


@dataclass(frozen=True, eq=False)
class SmallestWithin:
    """The smallest candidate whose WER is at most so much beyond its baseline's.

    Ruled out is who is certainly beyond the limit; spared, who is certainly within it, the tolerance included, or not
    smaller than one that is.

    Attributes:
        baselines: errors of every candidate's baseline by speaker, (speakers,).
        sizes: bytes of every candidate.
        limit: of the difference, a fraction.
    """

    rules: Rules
    baselines: Errors
    sizes: Mapping[str, int]
    limit: float

    def standing(self, errors: Errors) -> Standing:
        """See `Goal`."""
        gaps = {name: own - self.baselines[name][: len(own)] for name, own in errors.items()}
        beyond = {name for name, gap in gaps.items() if self._bound(gap) > self.limit}
        room = self.limit + self.rules.tolerance
        within = {name for name, gap in gaps.items() if name not in beyond and self._bound(-gap) >= -room}
        smallest = min((self.sizes[name] for name in within), default=math.inf)
        contenders = [n for n in errors if n not in beyond | within and self.sizes[n] < smallest]
        rates = {name: gap.sum() / max(self.rules.words[: len(gap)].sum(), 1) for name, gap in gaps.items()}
        fitting = [n for n in errors if n in within or (n in contenders and rates[n] <= self.limit)]
        leader = min(fitting, key=lambda name: (self.sizes[name], rates[name]), default=None)
        settled = beyond | {leader, *contenders}
        return Standing(
            leader,
            tuple(contenders),
            tuple(name for name in errors if name in beyond),
            tuple(name for name in errors if name not in settled),
        )

    def _bound(self, gap: Values) -> float:
        """Lower bound of a difference, the best of all looks."""
        return max(float(self.rules.lower(gap[:count])) for count in self.rules.looks if count <= len(gap))


@dataclass(frozen=True)
class Round:
    """One look.

    Attributes:
        speakers: so many were looked at.
        raced: who was brought this far.
        standing: after it.
    """

    speakers: int
    raced: tuple[str, ...]
    standing: Standing


def rounds(goal: Goal, candidates: Sequence[str], fetch: Callable[[Sequence[str], int], Errors]) -> Iterator[Round]:
    """Race, look after look; the last round has the winner, certain where it has no contenders.

    Who was spared comes back where the leader changes, and is brought as far as the others.

    Args:
        goal: what is searched for.
        candidates: who begins.
        fetch: gives the errors of these candidates on at least so many speakers; who failed is missing, and out.
    """
    errors: dict[str, Values] = {}
    contenders = tuple(candidates)
    for look in goal.rules.looks:
        raced: dict[str, None] = {}
        while new := [name for name in contenders if name not in raced]:
            raced |= dict.fromkeys(new)
            found = fetch(new, look)
            known = {name: own for name, own in errors.items() if name not in new}
            known |= {name: own[:look] for name, own in found.items()}
            errors = {name: known[name] for name in candidates if name in known}
            if not errors:
                return
            standing = goal.standing(errors)
            contenders = standing.contenders
        yield Round(look, tuple(raced), standing)
        if not contenders:
            return
