"""Normalisers: Whisper's of English, Whisper's basic one, and one for all languages that keeps marks.

`english_spelling.json` is the table of openai-whisper 20250625 (`whisper/normalizers/english.json`, MIT, see
`english_spelling.LICENSE`), which published Whisper checkpoints carry as their `normalizer.json`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable
from functools import cached_property
from importlib import metadata
from pathlib import Path

NORMALIZERS = ("multilingual", "none", "whisper-basic", "whisper-english")
_SPELLING = Path(__file__).with_name("english_spelling.json")
_SOURCE = "openai-whisper-20250625"
_DOTTED = ("tr", "az")
"""Languages in which i and dotless i are two letters, in capitals too."""
_VOWELS = {"th": ("\u0e4d\u0e32", "\u0e33"), "lo": ("\u0ecd\u0eb2", "\u0eb3")}
"""The vowel AM, which compatibility normalisation takes apart into a mark and a letter, and how readers see it."""
_JOINERS = "\u200c\u200d"


class Normaliser:
    """Turns references and hypotheses into comparable words.

    Args:
        name: `whisper-english` and `whisper-basic` (Radford et al. 2022, arXiv 2212.04356, appendix C, as transformers
            has them); `multilingual`, the latter with marks kept; or `none`, which leaves words as they are.
        spellings: another version of the table, as JSON, for results that were made with it.
        language: of the texts, a code; for `multilingual`.

    Attributes:
        name: as it was given.
        spellings: the table, as JSON; empty for others than `whisper-english`.
    """

    def __init__(self, name: str = "whisper-english", spellings: bytes | None = None, language: str = "") -> None:
        if name not in NORMALIZERS:
            raise ValueError(f"there is no normalizer {name!r}; there are {', '.join(NORMALIZERS)}")
        self.name = name
        self.spellings = (spellings or _SPELLING.read_bytes()) if name == "whisper-english" else b""
        self._dotted = name == "multilingual" and language in _DOTTED
        self._vowel = _VOWELS.get(language or "") if name == "multilingual" else None

    @property
    def version(self) -> str:
        """What identifies it: its name, and releases and tables that it goes by."""
        if self.name == "none":
            return self.name
        known = f"{self.name} transformers={metadata.version('transformers')}"
        if self.name == "whisper-english":
            table = hashlib.sha256(self.spellings).hexdigest()[:8]
            return f"{known} spelling={_SOURCE}:{table}"
        letters, vowel = " letters=tr, composed" if self._dotted else "", " vowels=am" if self._vowel else ""
        return f"{known} unicode={unicodedata.unidata_version}{letters}{vowel}"

    def __call__(self, text: str) -> str:
        """Return `text` in lower case without punctuation and brackets; English without fillers, numbers as digits.

        >>> Normaliser()("Mr. Grey's colour, um, twenty-one!")
        'mister gray is color 21'
        >>> Normaliser("none")(" as  it is ")
        'as it is'
        >>> Normaliser("multilingual", language="tr")("IŞIK, İstanbul'da!")
        'ışık istanbul da'
        """
        if self._dotted:
            text = unicodedata.normalize("NFC", text).replace("İ", "i").replace("I", "\N{LATIN SMALL LETTER DOTLESS I}")
            text = text.replace("i\N{COMBINING DOT ABOVE}", "i")  # what other programs make of the capital
        plain = " ".join(self._rules(text).split())
        return plain.replace(*self._vowel) if self._vowel else plain

    @cached_property
    def _rules(self) -> Callable[[str], str]:
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

        if self.name == "none":
            return str
        if self.name == "whisper-english":
            english: Callable[[str], str] = EnglishTextNormalizer(json.loads(self.spellings))
            return english
        basic = BasicTextNormalizer()
        if self.name == "multilingual":
            basic.clean = _without_symbols
        return basic  # type: ignore[no-any-return]


def _without_symbols(text: str) -> str:
    """`text` with a space for every symbol and sign, and without format characters, of which only joiners say anything.

    Whisper's own rule has a space for marks (Mn, Mc, Me) too: vowel signs of Indian scripts, vowels and tones of Thai
    and points of Arabic then cut words, or are lost. Kept, as in the Open ASR Leaderboard's multilingual track.

    >>> _without_symbols("हिन्दी।").split()
    ['हिन्दी']
    """
    composed = unicodedata.normalize("NFKC", text)
    heard = (c for c in composed if unicodedata.category(c) != "Cf" or c in _JOINERS)
    return "".join(" " if unicodedata.category(c)[0] in "SP" else c for c in heard)
