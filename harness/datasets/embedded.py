"""The embedded benchmark's own speech: the splits `clean`, `other` and `calibration`."""

from __future__ import annotations

from harness.config import Data
from harness.datasets._base import Corpus
from harness.datasets._openslr import load_tree
from harness.embedded import SPEECH_DIRECTORY

_HOURS = {"clean": 0.32, "other": 0.32, "calibration": 0.09}


class Embedded:
    """Synthesised speech that travels with the package."""

    name = "embedded"
    licence = "Apache-2.0, as the project that it is part of."

    def hours(self, data: Data) -> float | None:
        """Known by measurement."""
        return _HOURS.get(data.split)

    def corpus(self, data: Data) -> str:
        """All splits are of one."""
        return self.name

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """`root` and `revision` do not apply."""
        return load_tree("embedded", SPEECH_DIRECTORY, data)


DATASET = Embedded()
