"""Scores of one utterance: computed when it is transcribed, and again to verify it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from harness.metrics.alignment import align
from harness.metrics.counts import count_errors
from harness.metrics.loops import is_loop
from harness.metrics.normalisation import Normaliser

Unit = Literal["word", "character"]
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue"})
"""Languages that do not separate words, as in Radford et al. 2022 (arXiv 2212.04356, section 4.4), and Khmer."""
AUTO = "auto"


class Scorer:
    """How the utterances of a test set are scored; what is `auto` follows the language of each.

    Attributes:
        language: code of utterances that do not say theirs.

    Args:
        normalizer: one of `NORMALIZERS`; `auto` is `whisper-english` for English, else `multilingual`.
        unit: `word` or `character`; `auto` counts characters where words are not separated.
        spellings: see `Normaliser`.
    """

    def __init__(
        self, normalizer: str = AUTO, unit: str = AUTO, language: str = "en", spellings: bytes | None = None
    ) -> None:
        self.language, self._normalizer, self._unit, self._spellings = language, normalizer, unit, spellings
        self._known: dict[str, Normaliser] = {}

    def normaliser(self, language: str | None = None) -> Normaliser:
        """Of a language."""
        code = language or self.language
        if code not in self._known:
            usual = "whisper-english" if code == "en" else "multilingual"
            name = usual if self._normalizer == AUTO else self._normalizer
            self._known[code] = Normaliser(name, self._spellings, code)
        return self._known[code]

    @property
    def spellings(self) -> bytes:
        """The table that English was normalised with so far; empty where it was not."""
        return next((known.spellings for known in self._known.values() if known.spellings), b"")

    def unit(self, language: str | None = None) -> Unit:
        """What is counted in a language."""
        characters = (language or self.language) in UNSPACED if self._unit == AUTO else self._unit == "character"
        return "character" if characters else "word"

    def scores(self, reference: str, hypothesis: str, language: str | None = None) -> dict[str, Any]:
        """See `scores`."""
        return scores(reference, hypothesis, self.normaliser(language), self.unit(language))


def scores(reference: str, hypothesis: str, normalise: Callable[[str], str], unit: Unit = "word") -> dict[str, Any]:
    """Both texts, raw and normalised, aligned, with the error counts.

    Where characters are the unit, normalised texts have a space between any two, and alignment and counts are of
    them: `reference_words` is a number of characters. `character_errors` are jiwer's over code points in any case.

    >>> scores("THE CAT", "the bat", str.lower)["substitutions"]
    1
    >>> scores("今日は", "今日 わ", str, "character")["alignment"]
    'CCS'
    """
    texts = normalise(reference), normalise(hypothesis)
    expected, words = texts if unit == "word" else map(_spaced, texts)
    counts = count_errors(expected, words)
    letters = texts if unit == "word" else (texts[0].replace(" ", ""), texts[1].replace(" ", ""))
    characters = count_errors(*letters).characters
    return {
        "reference": reference,
        "hypothesis": hypothesis,
        "normalised_reference": expected,
        "normalised_hypothesis": words,
        "alignment": align(expected.split(), words.split()),
        "substitutions": counts.words.substitutions,
        "deletions": counts.words.deletions,
        "insertions": counts.words.insertions,
        "reference_words": counts.words.reference,
        "character_errors": characters.errors,
        "reference_characters": characters.reference,
        "empty": not words,
        "loop": is_loop(expected, words, letters),
    }


def _spaced(text: str) -> str:
    """The characters of a text as readers see them, a base with its marks, a space between any two.

    Extended grapheme clusters (Unicode Standard Annex 29), as Whisper's basic normaliser splits letters.

    >>> _spaced("ที่นี่")
    'ที่ นี่'
    """
    import regex

    return " ".join(regex.findall(r"\X", "".join(text.split())))
