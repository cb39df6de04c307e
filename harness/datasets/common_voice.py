"""Common Voice, as it is downloaded (`root`), or from the hub.

Downloaded, a language is `SPLIT.tsv` with `client_id`, `path` and `sentence`, and the audio in `clips/`. Mozilla's own
repositories on the hub are empty since 2025; release 17.0 is read from the copy of it, with its columns, in
`fixie-ai/common_voice_17_0`.

Source: Ardila et al. 2020, "Common Voice: A Massively-Multilingual Speech Corpus", arXiv 1912.06670.
"""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Extent, Utterance, check_split, corpus_of, root_of
from harness.datasets._hub import Source, load_from_hub, pinned
from harness.datasets._table import FILE_NAME, TEXT, Record, read_tsv
from harness.errors import DataError
from harness.experiment.tables import DETECT, Data

_REPOSITORY = "fixie-ai/common_voice_17_0"
_REVISION = "34f78a43893414e7b6e271ba94c1d5e05f18b239"
"""Taken unless `data.revision` names another."""
_HUB_SPLITS = ("test", "validation", "train")
_LOCALES = {"ga": "ga-IE", "hy": "hy-AM", "ne": "ne-NP", "nn": "nn-NO", "pa": "pa-IN", "sv": "sv-SE", "zh": "zh-CN"}
"""Of languages whose configuration is not called by their code."""


class CommonVoice:
    """One language: a directory, or `data.language` of the hub."""

    name = "common_voice"
    licence = "Common Voice, Mozilla: CC0 1.0 (https://commonvoice.mozilla.org)."

    def extent(self, data: Data) -> Extent | None:
        """Not known before reading: releases differ."""
        return None

    def corpus(self, data: Data) -> str:
        """All splits of a language are one; what tells languages apart is the directory, or what it is called."""
        return f"common_voice {Path(data.root).name if data.root else data.language}"

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """The clips that `root/SPLIT.tsv` names, in which double quotes are letters; without `root`, from the hub."""
        if data.root is None:
            return _from_hub(data, cached_only=cached_only)
        root = root_of(data, "cv-corpus/en")
        path = root / f"{data.split}.tsv"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in root.glob("*.tsv"))) or "none"
            raise DataError(
                f"{path}: there is no such file; data.root is a language's directory; splits there: {there}"
            )
        return corpus_of("common_voice", [_utterance(root, row) for row in read_tsv(path)], data)


def _from_hub(data: Data, *, cached_only: bool) -> Corpus:
    if data.language in (None, DETECT):
        raise DataError(
            'common_voice: it needs root = "path/to/cv-corpus/en", or language = "de" to be read from the hub'
        )
    check_split(data, _HUB_SPLITS)
    language = str(data.language)
    source = Source(
        _REPOSITORY,
        _LOCALES.get(language, language),
        data.split,
        id="path",
        texts=("sentence",),
        speaker="client_id",
        language=language,
    )
    return load_from_hub(source, pinned(data, _REVISION), cached_only=cached_only)


def _utterance(root: Path, row: Record) -> Utterance:
    name = row.text(FILE_NAME)
    return Utterance(name, row.speaker, row.text(TEXT), root / "clips" / name, row.language)


DATASET = CommonVoice()
