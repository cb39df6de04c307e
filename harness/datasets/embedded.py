"""The embedded benchmark's own speech: the splits `clean`, `other` and `calibration`."""

from __future__ import annotations

from harness.datasets._base import Corpus, Extent
from harness.datasets._openslr import load_tree
from harness.embedded import SPEECH_DIRECTORY
from harness.experiment.tables import Data

_EXTENTS = {"clean": Extent(504, 0.32), "other": Extent(504, 0.32), "calibration": Extent(128, 0.1)}


class Embedded:
    """Synthesised speech that travels with the package."""

    name = "embedded"
    splits = tuple(_EXTENTS)
    licence = "Apache-2.0, as the project that it is part of."

    def extent(self, data: Data) -> Extent | None:
        """Known by measurement."""
        return _EXTENTS.get(data.split)

    def corpus(self, data: Data) -> str:
        """All splits are of one."""
        return self.name

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """`root` and `revision` do not apply."""
        return load_tree("embedded", SPEECH_DIRECTORY, data)


DATASET = Embedded()
