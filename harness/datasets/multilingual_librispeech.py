"""Multilingual LibriSpeech: audiobooks in seven languages beside English, which `librispeech` has.

Source: Pratap et al. 2020, "MLS: A Large-Scale Multilingual Dataset for Speech Research", arXiv 2012.03411.
Configurations and columns are those of `facebook/multilingual_librispeech`.
"""

from __future__ import annotations

from harness.datasets._base import Corpus, Extent, check_split
from harness.datasets._hub import Source, check_language, load_from_hub, pinned
from harness.experiment.tables import Data

_REPOSITORY = "facebook/multilingual_librispeech"
_REVISION = "2e83e61823b4c47dcbcb1980bb88601274127609"
"""Taken unless `data.revision` names another."""
_OF_LANGUAGE = {
    "de": "german",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "pl": "polish",
    "pt": "portuguese",
}


class MultilingualLibriSpeech:
    """`data.language` says which."""

    name = "multilingual_librispeech"
    splits = ("test", "dev", "9_hours", "1_hours", "train")
    licence = (
        "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Multilingual LibriSpeech, Vineel Pratap, Qiantong "
        "Xu, Anuroop Sriram, Gabriel Synnaeve and Ronan Collobert, 2020, https://www.openslr.org/94. Changed: texts "
        "only, of the utterances that were transcribed."
    )

    def extent(self, data: Data) -> Extent | None:
        """Not known before the data is read."""
        return None

    def corpus(self, data: Data) -> str:
        """All languages are of one."""
        return self.name

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """From the hub."""
        check_split(data, self.splits)
        language = check_language(data, _OF_LANGUAGE)
        source = Source(
            _REPOSITORY,
            _OF_LANGUAGE[language],
            data.split,
            texts=("transcript",),
            speaker="speaker_id",
            language=language,
        )
        return load_from_hub(source, pinned(data, _REVISION), cached_only=cached_only)


DATASET = MultilingualLibriSpeech()
