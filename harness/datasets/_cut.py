"""Short utterances with known words: a corpus cut where its word alignments have pauses.

Nothing is cut where its words are not known: alignments whose words are not those of the reference are refused.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.datasets._audio import SAMPLE_RATE
from harness.datasets._base import Corpus, Utterance, corpus_of, read_transcript
from harness.errors import DataError
from harness.experiment.tables import Data

VERSION = 1
"""Of how recordings are cut; part of the corpus's name, and so of the identity of what is measured on it."""
PAUSE = 0.2
"""Seconds without a word from which on it is cut."""
MARGIN = 0.25
"""Seconds of a pause that are left beside a word at most; of a shorter pause, one half is left on either side."""
_SUFFIX = ".ctm"


@dataclass(frozen=True)
class Word:
    """A word with its place in the recording, seconds."""

    begin: float
    end: float
    text: str


def cut(corpus: Corpus, data: Data) -> Corpus:
    """What stands between two pauses of at least .2 s as an utterance of its own, `limit` and `max_seconds` applied.

    Words and times are those of `data.alignments`, a NIST CTM file or a directory of such: lines of recording,
    channel, begin and duration in seconds, word, perhaps a confidence (`;;` begins a comment). The text is taken from
    the reference. Recordings without alignments are left out. Speaker and language stay.

    Args:
        corpus: whole recordings.
        data: with `alignments`.

    Raises:
        DataError: there are no such files; a line cannot be read; words are not those of the reference, or are out of
            order; nothing is left.
    """
    assert data.alignments is not None
    aligned = _read(Path(data.alignments).expanduser())
    pieces = [piece for u in corpus.utterances if u.id in aligned for piece in _pieces(u, aligned[u.id])]
    if not pieces:
        named = f"such as {next(iter(aligned))!r}" if aligned else "none"
        raise DataError(
            f"{data.alignments}: it has recordings ({named}), but none of {corpus.id} {data.split} "
            f"(such as {corpus.utterances[0].id!r}); the first column is the id of the utterance"
        )
    source = corpus.id if corpus.commit is None else f"{corpus.id} {corpus.commit}"
    return corpus_of(f"{source}, cut at pauses (version {VERSION})", pieces, data)


def _read(path: Path) -> dict[str, list[tuple[Word, str]]]:
    """By recording, its words in order, each with where it was read."""
    files = sorted(path.rglob(f"*{_SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise DataError(
            f"{path}: there is no {_SUFFIX} file below this directory; data.alignments names one, or a file"
        )
    found: dict[str, list[tuple[Word, str]]] = {}
    for file in files:
        for number, line in enumerate(read_transcript(file).splitlines(), 1):
            if line.strip() and not line.lstrip().startswith(";;"):
                recording, word = _word(line, where := f"{file}:{number}")
                found.setdefault(recording, []).append((word, where))
    return {recording: sorted(words, key=lambda word: word[0].begin) for recording, words in found.items()}


def _word(line: str, where: str) -> tuple[str, Word]:
    columns = line.split()
    try:
        recording, _, begin, duration, text = columns[:5]
        word = Word(float(begin), float(begin) + float(duration), text)
    except ValueError:
        raise DataError(
            f"{where}: a line is recording, channel, begin, duration and word; this one is {line!r}"
        ) from None
    if not 0 <= word.begin <= word.end < float("inf"):
        raise DataError(f"{where}: begin and duration are seconds from 0 on; they are {begin} and {duration}")
    return recording, word


def _pieces(utterance: Utterance, aligned: Sequence[tuple[Word, str]]) -> Iterator[Utterance]:
    words = [word for word, _ in aligned]
    reference = utterance.text.split()
    for (word, where), wanted in zip(aligned, reference, strict=False):
        if word.text.casefold() != wanted.casefold():
            raise DataError(f"{where}: the word is {word.text!r}, and the reference has {wanted!r} in its place")
    if len(words) != len(reference):
        raise DataError(
            f"{aligned[-1][1]}: {utterance.id} has {len(words)} words in the alignments and {len(reference)} in the "
            "reference; nothing is cut where its words are not known"
        )
    gaps = [round(later.begin - earlier.end, 4) for earlier, later in itertools.pairwise(words)]
    for gap, (_, where) in zip(gaps, aligned[1:], strict=True):
        if gap < -PAUSE:
            raise DataError(f"{where}: the word begins {-gap:.2f} s before the one before it ends")
    places = [0, *(i for i, gap in enumerate(gaps, 1) if gap >= PAUSE), len(words)]
    for first, behind in itertools.pairwise(places):
        before = gaps[first - 1] / 2 if first else MARGIN
        after = gaps[behind - 1] / 2 if behind < len(words) else MARGIN
        begin = max(0.0, words[first].begin - min(before, MARGIN))
        end = words[behind - 1].end + min(after, MARGIN)
        yield Utterance(
            f"{utterance.id} {begin:07.2f}-{end:07.2f}",
            utterance.speaker,
            " ".join(reference[first:behind]),
            partial(_audio, utterance, begin, end, aligned[behind - 1]),
            utterance.language,
            (utterance.id,),
            (utterance,),
        )


def _audio(whole: Utterance, begin: float, end: float, last: tuple[Word, str]) -> bytes:
    """A WAV file with these seconds of the samples as they are decoded."""
    import soundfile

    samples = whole.waveform()
    word, where = last
    if word.end > len(samples) / SAMPLE_RATE + MARGIN:
        raise DataError(
            f"{where}: the word ends at {word.end:g} s, and the recording at {len(samples) / SAMPLE_RATE:.2f} s"
        )
    file = io.BytesIO()
    piece = samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    soundfile.write(file, piece, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()
