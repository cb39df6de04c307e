"""The English test sets of the Open ASR Leaderboard: seven corpora, eight sets, with the leaderboard's own rules.

Source: Srivastav et al. 2025, "Open ASR Leaderboard", arXiv 2510.06961; Gandhi et al. 2022, "ESB: A Benchmark For
Multi-Domain End-to-End Speech Recognition", arXiv 2210.13352. SPGISpeech, GigaSpeech and Earnings-22 have terms of
their own, which the hub asks to be accepted.
"""

from __future__ import annotations

from harness.datasets._base import Corpus, Extent, check_split
from harness.datasets._hub import Source, load_from_hub, pinned
from harness.experiment.tables import Data
from harness.metrics import Normaliser

_REPOSITORY = "hf-audio/esb-datasets-test-only-sorted"
_REVISION = "dfd1d0bcf47d9d713f83ddd4db6c6b61daf851a8"
"""Taken unless `data.revision` names another."""
_SETS = {
    "ami": ("ami", "test"),
    "earnings22": ("earnings22", "test"),
    "gigaspeech": ("gigaspeech", "test"),
    "librispeech-clean": ("librispeech", "test.clean"),
    "librispeech-other": ("librispeech", "test.other"),
    "spgispeech": ("spgispeech", "test"),
    "tedlium": ("tedlium", "test"),
    "voxpopuli": ("voxpopuli", "test"),
}
_TEXTS = ("text", "sentence", "normalized_text", "transcript", "transcription")
_NOT_SCORED = "ignore time segment in scoring"


class OpenAsr:
    """Split names are those of the sets, such as `ami` or `librispeech-other`."""

    name = "open_asr"
    splits = tuple(_SETS)
    licence = (
        "every set has the terms of its own corpus: of LibriSpeech CC BY 4.0 "
        "(https://creativecommons.org/licenses/by/4.0/; Vassil Panayotov, Guoguo Chen, Daniel Povey and Sanjeev "
        "Khudanpur, 2015, https://www.openslr.org/12); SPGISpeech, GigaSpeech and Earnings-22 ask that theirs be "
        "accepted; read those of the sets that are named here before you pass their texts on."
    )

    def extent(self, data: Data) -> Extent | None:
        """Not known before the data is read."""
        return None

    def corpus(self, data: Data) -> str:
        """LibriSpeech has two of the sets, every other corpus one."""
        return _SETS[data.split][0] if data.split in _SETS else data.split

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """From the hub, without the references that the leaderboard does not score.

        These are the ones without words once they are normalised, and those that say so. Ids begin with the
        row's number, so that the order is the repository's.
        """
        check_split(data, self.splits)
        configuration, split = _SETS[data.split]
        normalise = Normaliser()
        source = Source(
            _REPOSITORY,
            configuration,
            split,
            texts=_TEXTS,
            speaker_of=_librispeech_speaker if configuration == "librispeech" else None,
            numbered=True,
            scored=lambda text: normalise(text) not in ("", _NOT_SCORED),
        )
        return load_from_hub(source, pinned(data, _REVISION), cached_only=cached_only)


def _librispeech_speaker(name: str) -> str:
    """The reader, which LibriSpeech's ids begin with."""
    return name.partition("-")[0]


DATASET = OpenAsr()
