"""Kaldi's data directories: `wav.scp`, `text`, and perhaps `utt2spk` and `utt2lang`."""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Extent, Utterance, corpus_of, read_transcript
from harness.datasets._table import LANGUAGE, Record
from harness.datasets.folder import directory_of
from harness.errors import DataError
from harness.experiment.tables import Data


class Kaldi:
    """One directory for each split."""

    name = "kaldi"

    def extent(self, data: Data) -> Extent | None:
        """Not known before reading."""
        return None

    def corpus(self, data: Data) -> str:
        """Every directory is one."""
        return data.label

    def load(self, data: Data, *, cached_only: bool = False) -> Corpus:
        """`wav.scp` and `text` must name the same utterances; relative paths are relative to the directory.

        Commands in `wav.scp` are not run, and `segments` is not read: what is to be measured is a file for itself.
        """
        directory = directory_of(data)
        if (directory / "segments").exists():
            raise DataError(
                f"{directory / 'segments'}: utterances that are parts of recordings are not read here; cut them into "
                "files (extract-segments) and name these in wav.scp"
            )
        audio, texts = (_table(directory / name) for name in ("wav.scp", "text"))
        _check_same(directory, audio, texts)
        speakers, languages = (_optional(directory, audio, name) for name in ("utt2spk", "utt2lang"))
        spoken = {name: Record(f"{directory / 'utt2lang'}, {name}", {LANGUAGE: languages.get(name)}) for name in audio}
        utterances = [
            Utterance(name, speakers.get(name), texts[name], _file(directory, name, place), spoken[name].language)
            for name, place in audio.items()
        ]
        return corpus_of("kaldi", utterances, data)


def _optional(directory: Path, audio: dict[str, str], name: str) -> dict[str, str]:
    """A table of all utterances, empty where there is none."""
    if not (directory / name).is_file():
        return {}
    found = _table(directory / name)
    _check_same(directory, audio, found, name)
    return found


def _table(path: Path) -> dict[str, str]:
    """What stands behind the first space of every line, by what stands before it."""
    found: dict[str, str] = {}
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; a Kaldi directory has wav.scp and text")
    for number, line in enumerate(read_transcript(path).split("\n"), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        if fields[0] in found:
            raise DataError(f"{path}, line {number}: {fields[0]} is there a second time; remove one")
        found[fields[0]] = fields[1].strip() if len(fields) > 1 else ""
    if not found:
        raise DataError(f"{path}: the file is empty")
    return found


def _check_same(directory: Path, audio: dict[str, str], others: dict[str, str], name: str = "text") -> None:
    for one, two, there, lacking in ((audio, others, "wav.scp", name), (others, audio, name, "wav.scp")):
        absent = [utterance for utterance in one if utterance not in two]
        if absent:
            raise DataError(
                f"{directory / lacking}: it lacks {len(absent)} of the utterances of {there}, such as {absent[0]}; "
                "both must have the same (utils/fix_data_dir.sh)"
            )


def _file(directory: Path, name: str, place: str) -> Path:
    if place.endswith("|") or not place:
        raise DataError(
            f"{directory / 'wav.scp'}: {name} is {place or 'nothing'!r}, and commands are not run here; write the "
            "audio to a file and name it"
        )
    return directory / Path(place).expanduser()


DATASET = Kaldi()
