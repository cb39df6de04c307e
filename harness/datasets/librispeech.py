"""LibriSpeech, from the hub (`openslr/librispeech_asr`) or from a local OpenSLR directory (`root`)."""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Extent, check_split
from harness.datasets._hub import Source, load_from_hub
from harness.datasets._openslr import load_tree
from harness.experiment.tables import Data

_REPOSITORY = "openslr/librispeech_asr"
_EXTENTS = {
    "test-clean": Extent(2620, 5.4),
    "test-other": Extent(2939, 5.3),
    "dev-clean": Extent(2703, 5.4),
    "dev-other": Extent(2864, 5.1),
}
_HUB_SPLITS = {
    "test-clean": ("clean", "test"),
    "test-other": ("other", "test"),
    "dev-clean": ("clean", "validation"),
    "dev-other": ("other", "validation"),
    "train-clean-100": ("clean", "train.100"),
}


class LibriSpeech:
    """Read English (Panayotov et al. 2015, ICASSP), CC BY 4.0; splits are named as at OpenSLR."""

    name = "librispeech"
    splits = tuple(_HUB_SPLITS)
    licence = (
        "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). LibriSpeech ASR corpus, Vassil Panayotov, "
        "Guoguo Chen, Daniel Povey and Sanjeev Khudanpur, 2015, https://www.openslr.org/12. Changed: texts only, of "
        "the utterances that were transcribed."
    )

    def extent(self, data: Data) -> Extent | None:
        """As published with the corpus; what lies in `root` may be a part of it."""
        return None if data.root else _EXTENTS.get(data.split)

    def corpus(self, data: Data) -> str:
        """All splits are of one."""
        return self.name

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """From `root` where it is given, else from the hub."""
        if data.root is not None:
            return load_tree("librispeech", Path(data.root).expanduser(), data)
        check_split(data, self.splits)
        configuration, split = _HUB_SPLITS[data.split]
        source = Source(_REPOSITORY, configuration, split, speaker="speaker_id")
        return load_from_hub(source, data, cached_only=cached_only)


DATASET = LibriSpeech()
