"""Errors by stratum: a cell beside another one by length, noise, speech rate, speaker, kind of word, and in loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.stats import difference

Row = Mapping[str, Any]
Pair = tuple[Row, Row]
_KINDS = ("numbers", "names", "rare words", "other words")
_LETTERS = 5
"""Of the longest word at least; else characters are the unit."""
_ENDS = ".!?"
_MARKS = ".,;:!?\"'()[]-"
PARTS = 3
"""Equal parts into which utterances are sorted by a number."""
SPEAKERS = 3
"""Speakers that are named: those with the largest losses."""


@dataclass(frozen=True)
class Stratum:
    """Some utterances, or some words, of a cell.

    Attributes:
        by: what they are told apart by.
        name: which ones.
        utterances: in how many they are.
        wer, baseline_wer: word error rates of the cell and of the other one, fractions.
        low, high: the 95 % interval of their difference, over speakers where there are several, else over utterances;
            `None` where there are too few, or where nothing differs.
    """

    by: str
    name: str
    utterances: int
    wer: float
    baseline_wer: float
    low: float | None
    high: float | None


def strata(cell: Sequence[Row], baseline: Sequence[Row]) -> list[Stratum]:
    """The strata of two cells on the same split, matched by id; speakers only where there are several of them."""
    theirs = {row["id"]: row for row in baseline}
    pairs = [(row, theirs[row["id"]]) for row in cell]
    return [
        *_by_number("length", "s", pairs, lambda row: row["seconds"]),
        *_by_number("estimated SNR", "dB", pairs, lambda row: row.get("estimated_snr_db")),
        *_by_number("speech rate", "words/s", pairs, _rate),
        *_by_word(pairs),
        *_by_speaker(pairs),
        *_by_fate(pairs),
    ]


def _by_number(by: str, unit: str, pairs: Sequence[Pair], value: Callable[[Row], float | None]) -> Iterator[Stratum]:
    values = [value(row) for row, _ in pairs]
    if any(v is None for v in values) or len(set(values)) < PARTS:
        return
    order = np.argsort(np.array(values, dtype=float), kind="stable")
    for part in np.array_split(order, PARTS):
        own = [float(values[i]) for i in part]  # type: ignore[arg-type]
        yield from _stratum(by, f"{min(own):.1f} to {max(own):.1f} {unit}", [pairs[i] for i in part])


def _rate(row: Row) -> float | None:
    return row["reference_words"] / row["seconds"] if row["seconds"] else None


def _by_word(pairs: Sequence[Pair]) -> Iterator[Stratum]:
    """Numbers, names, rare words and all others; what is inserted is of no kind.

    Numbers are what normalised references write in digits. Names are words that references with both cases write with a
    capital, never without and not only where a sentence begins. Rare are words that occur once in the references of the
    test set. An error is a word of the reference that is deleted or substituted.
    """
    if any(row.get("alignment") is None for pair in pairs for row in pair):
        return
    words = Counter(word for row, _ in pairs for word in row["normalised_reference"].split())
    if max(map(len, words), default=0) < _LETTERS:
        return
    names = _names([row["reference"] for row, _ in pairs if row.get("reference")])
    kinds = {word: _kind(word, names, count) for word, count in words.items()}
    if len(set(kinds.values())) < 2:
        return
    for kind in _KINDS:
        counted = [(pair, [_missed(row, kinds, kind) for row in pair]) for pair in pairs]
        own = [(pair, counts) for pair, counts in counted if counts[0][1]]
        yield from _measured("word", kind, [pair for pair, _ in own], [counts for _, counts in own])


def _kind(word: str, names: Collection[str], count: int) -> str:
    if any(character.isdigit() for character in word):
        return "numbers"
    if word in names:
        return "names"
    return "rare words" if count == 1 else "other words"


def _names(references: Sequence[str]) -> set[str]:
    """Words, in small letters, that are written with a capital where no sentence begins, and never without one."""
    capital, small = set(), set()
    for reference in references:
        if reference.isupper() or reference.islower():  # there is one case
            continue
        begins = True
        for token in reference.split():
            word = token.strip(_MARKS)
            if word[:1].isupper() and not begins and len(word) > 1:
                capital.add(word.lower())
            elif word[:1].islower():
                small.add(word)
            begins = token[-1] in _ENDS
    return capital - small


def _missed(row: Row, kinds: Mapping[str, str], kind: str) -> tuple[int, int]:
    """Words of the kind that were not heard, and all of the kind."""
    steps = [step for step in row["alignment"] if step != "I"]
    words = row["normalised_reference"].split()
    own = [step for step, word in zip(steps, words, strict=True) if kinds[word] == kind]
    return sum(step != "C" for step in own), len(own)


def _by_speaker(pairs: Sequence[Pair]) -> Iterator[Stratum]:
    by_speaker: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair[0]["speaker"] is None:
            return
        by_speaker.setdefault(pair[0]["speaker"], []).append(pair)
    if not 1 < len(by_speaker) < len(pairs):
        return
    found = [stratum for name, own in by_speaker.items() for stratum in _stratum("speaker", name, own)]
    yield from sorted(found, key=lambda s: s.baseline_wer - s.wer)[:SPEAKERS]


def _by_fate(pairs: Sequence[Pair]) -> Iterator[Stratum]:
    """Looping and empty transcripts of the cell apart from all others."""
    for name, own in (
        ("hallucination loop", [p for p in pairs if p[0]["loop"]]),
        ("empty", [p for p in pairs if p[0]["empty"]]),
        ("neither", [p for p in pairs if not p[0]["loop"] and not p[0]["empty"]]),
    ):
        yield from _stratum("transcript", name, own)


def _stratum(by: str, name: str, pairs: Sequence[Pair]) -> Iterator[Stratum]:
    yield from _measured(by, name, pairs, [[(_errors(row), row["reference_words"]) for row in pair] for pair in pairs])


def _measured(
    by: str, name: str, pairs: Sequence[Pair], counts: Sequence[Sequence[tuple[int, int]]]
) -> Iterator[Stratum]:
    """The stratum of these utterances, of whose cell and baseline errors and words are counted."""
    speakers = [row["speaker"] for row, _ in pairs]
    blocked = None not in speakers and len(set(speakers)) > 1
    blocks: dict[Any, Any] = {}
    for i, (speaker, own) in enumerate(zip(speakers, np.array(counts), strict=True)):
        key = speaker if blocked else i
        blocks[key] = blocks.get(key, 0) + own
    if not blocks:
        return
    cell, baseline = np.array(list(blocks.values())).swapaxes(0, 1)
    words = cell[:, 1].sum()
    if words:
        found = difference(cell, baseline)
        around = (None, None) if np.isnan(found.low) else (found.low, found.high)
        yield Stratum(by, name, len(pairs), cell[:, 0].sum() / words, baseline[:, 0].sum() / words, *around)


def _errors(row: Row) -> int:
    return int(row["substitutions"] + row["deletions"] + row["insertions"])
