"""NeMo's manifests: a JSON object a line with `audio_filepath`, `text` and `duration`."""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Extent, Utterance, corpus_of, root_of
from harness.datasets._table import LANGUAGE, SPEAKER, Record, json_objects, respelled
from harness.errors import DataError
from harness.experiment.tables import Data

_NAMES = ("{}.json", "{}.jsonl", "{}_manifest.json", "manifest_{}.json")


class Nemo:
    """A directory with a manifest for each split."""

    name = "nemo"

    def extent(self, data: Data) -> Extent | None:
        """Not known before reading."""
        return None

    def corpus(self, data: Data) -> str:
        """Every manifest is one."""
        return data.label

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """`root/SPLIT.json`, `.jsonl`, `SPLIT_manifest.json` or `manifest_SPLIT.json`; paths are relative to `root`."""
        root = root_of(data, "directory/of/manifests")
        paths = [root / name.format(data.split) for name in _NAMES if (root / name.format(data.split)).is_file()]
        if len(paths) != 1:
            there = ", ".join(sorted(p.name for p in root.glob("*.json*"))) or "none"
            what = "there are several manifests" if paths else "there is no manifest"
            raise DataError(f"{root}: {what} of split {data.split!r}; files there: {there}")
        rows = [respelled(Record(where, row), SPEAKER, LANGUAGE) for where, row in json_objects(paths[0])]
        return corpus_of("nemo", [_utterance(root, row) for row in rows], data)


def _utterance(root: Path, row: Record) -> Utterance:
    for key in ("audio_filepath", "text"):
        if row.fields.get(key) is None:
            raise DataError(f"{row.where}: there is no {key}; a manifest has audio_filepath, text and duration")
    if row.fields.get("offset"):
        raise DataError(
            f"{row.where}: offset is {row.fields['offset']}: parts of recordings are not read here; cut them into files"
        )
    name = row.text("audio_filepath")
    return Utterance(name, row.speaker, row.text("text"), root / Path(name).expanduser(), row.language)


DATASET = Nemo()
