"""Common Voice as it is downloaded: `SPLIT.tsv` with `client_id`, `path` and `sentence`, and the audio in `clips/`."""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Extent, Utterance, corpus_of, root_of
from harness.datasets._table import FILE_NAME, TEXT, Record, read_tsv
from harness.errors import DataError
from harness.experiment.tables import Data


class CommonVoice:
    """The directory of one language."""

    name = "common_voice"
    licence = "Common Voice, Mozilla: CC0 1.0 (https://commonvoice.mozilla.org)."

    def extent(self, data: Data) -> Extent | None:
        """Not known before reading: releases differ."""
        return None

    def corpus(self, data: Data) -> str:
        """All splits of a language are one; what tells languages apart is the directory."""
        return f"common_voice {Path(data.root or '').name}"

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """The clips that `root/SPLIT.tsv` names; double quotes are letters in it."""
        root = root_of(data, "cv-corpus/en")
        path = root / f"{data.split}.tsv"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in root.glob("*.tsv"))) or "none"
            raise DataError(
                f"{path}: there is no such file; data.root is a language's directory; splits there: {there}"
            )
        return corpus_of("common_voice", [_utterance(root, row) for row in read_tsv(path)], data)


def _utterance(root: Path, row: Record) -> Utterance:
    name = row.text(FILE_NAME)
    return Utterance(name, row.speaker, row.text(TEXT), root / "clips" / name)


DATASET = CommonVoice()
