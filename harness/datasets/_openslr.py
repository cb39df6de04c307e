"""LibriSpeech's directory layout: SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac and *.trans.txt."""

from __future__ import annotations

from pathlib import Path

from harness.datasets._base import Corpus, Utterance, corpus_of, read_transcript
from harness.errors import DataError
from harness.experiment.tables import Data

_SUFFIXES = (".flac", ".ogg", ".wav")


def load_tree(name: str, root: Path, data: Data) -> Corpus:
    """The utterances of `root/<split>`.

    Raises:
        DataError: there is no such split, a transcript is empty, or a file is missing.
    """
    directory = root / data.split
    if not root.is_dir():
        raise DataError(f"{root}: there is no such directory; data.root names the one above the splits")
    if not directory.is_dir():
        there = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir()))
        raise DataError(f"{directory}: there is no such split; {root} has {there or 'no directories'}")
    transcripts = sorted(directory.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise DataError(f"{directory}: there is no SPEAKER/CHAPTER/*.trans.txt below it")
    utterances = [utterance for transcript in transcripts for utterance in _chapter(transcript)]
    return corpus_of(name, utterances, data, language="en")


def _chapter(transcript: Path) -> list[Utterance]:
    lines = [line for line in read_transcript(transcript).split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{transcript}: the transcript file is empty")
    return [_utterance(transcript, *line.partition(" ")[::2]) for line in lines]


def _utterance(transcript: Path, name: str, text: str) -> Utterance:
    files = [transcript.parent / f"{name}{suffix}" for suffix in _SUFFIXES]
    return Utterance(name, name.partition("-")[0], text.strip(), next((f for f in files if f.is_file()), files[0]))
