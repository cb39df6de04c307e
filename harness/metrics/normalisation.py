"""Whisper's normaliser of English, with its own table of British and American spellings, the same for every model.

`english_spelling.json` is the table of openai-whisper 20250625 (`whisper/normalizers/english.json`, MIT, see
`english_spelling.LICENSE`), which published Whisper checkpoints carry as their `normalizer.json`.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

NORMALIZERS = ("none", "whisper-english")
_SPELLING = Path(__file__).with_name("english_spelling.json")
_SOURCE = "openai-whisper-20250625"


class Normaliser:
    """Turns references and hypotheses into comparable words.

    Args:
        name: `whisper-english` (Radford et al. 2022, arXiv 2212.04356, appendix C, as transformers has it), or `none`,
            which leaves words as they are.
        spellings: another version of the table, as JSON, for results that were made with it.

    Attributes:
        spellings: the table, as JSON; empty for `none`.
    """

    def __init__(self, name: str = "whisper-english", spellings: bytes | None = None) -> None:
        if name not in NORMALIZERS:
            raise ValueError(f"there is no normalizer {name!r}; there are {', '.join(NORMALIZERS)}")
        self._name = name
        self.spellings = b"" if name == "none" else spellings or _SPELLING.read_bytes()

    @property
    def version(self) -> str:
        """What identifies it: its name, the release of transformers, and source and hash of the spelling table."""
        if self._name == "none":
            return self._name
        table = hashlib.sha256(self.spellings).hexdigest()[:8]
        return f"{self._name} transformers={metadata.version('transformers')} spelling={_SOURCE}:{table}"

    def __call__(self, text: str) -> str:
        """Return `text` in lower case without punctuation, fillers and brackets, numbers as digits.

        >>> Normaliser()("Mr. Grey's colour, um, twenty-one!")
        'mister gray is color 21'
        >>> Normaliser("none")(" as  it is ")
        'as it is'
        """
        words: str = text if self._name == "none" else self._english(text)
        return " ".join(words.split())

    @cached_property
    def _english(self) -> Any:
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

        return EnglishTextNormalizer(json.loads(self.spellings))
