"""The Whisper English normaliser of transformers, with the checkpoint's spelling table where it has one."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path


class Normaliser:
    """Turns references and hypotheses into comparable words.

    Args:
        model_directory: its `normalizer.json`, the table of British and American spellings that Whisper
            checkpoints carry, is used where it exists; without one spellings stay as they are.
    """

    def __init__(self, model_directory: Path | None = None) -> None:
        path = None if model_directory is None else model_directory / "normalizer.json"
        self._spelling = path.read_bytes() if path is not None and path.is_file() else b"{}"

    @classmethod
    def with_spellings(cls, table: bytes) -> Normaliser:
        """The one with a table of spellings that was kept, as the checkpoint's file has it."""
        found = cls()
        found._spelling = table
        return found

    @property
    def spellings(self) -> bytes:
        """The table of spellings, as the checkpoint's file has it."""
        return self._spelling

    @property
    def version(self) -> str:
        """What identifies it: the release of transformers, and a hash of the spelling table."""
        table = hashlib.sha256(self._spelling).hexdigest()[:8]
        return f"whisper-english transformers={metadata.version('transformers')} spelling={table}"

    def __call__(self, text: str) -> str:
        """Return `text` in lower case without punctuation, fillers and brackets, numbers as digits."""
        if not hasattr(self, "_normalise"):
            from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

            self._normalise = EnglishTextNormalizer(json.loads(self._spelling))
        normalised: str = self._normalise(text)
        return normalised.strip()
