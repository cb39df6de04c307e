"""Long recordings with known words: utterances of a corpus, joined in an order made from a seed.

Sequential decoders are judged by such recordings: where an utterance ends, nothing in the text tells.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from harness.datasets._audio import SAMPLE_RATE
from harness.datasets._base import Corpus, Utterance
from harness.errors import DataError

VERSION = 1
"""Of how recordings are joined; part of the corpus's name, and so of the identity of what is measured on it."""
SILENCE = 0.5
"""Seconds between two utterances."""


def joined(corpus: Corpus, seconds: float, seed: int) -> Corpus:
    """The corpus as recordings of at least so many seconds; the last may be shorter, and nothing is left out.

    Utterances of all speakers follow each other in random order, with half a second of digital silence between two.
    The speaker of such a recording is not known. Its text is that of its utterances, one after the other.

    Args:
        corpus: whose lengths are read.
        seconds: of a recording.
        seed: of the order.

    Raises:
        DataError: a length cannot be read, or utterances are in several languages.
    """
    languages = sorted({str(utterance.language) for utterance in corpus.utterances})
    if len(languages) > 1:
        raise DataError(
            f"{corpus.id}: join_seconds would put {languages[0]} and {languages[1]} into one recording; give each "
            "language a [[data]] of its own"
        )
    utterances = [corpus.utterances[place] for place in np.random.default_rng(seed).permutation(len(corpus.utterances))]
    made = tuple(_recording(number, parts) for number, parts in enumerate(_filled(utterances, seconds), 1))
    name = f"{corpus.id}, joined to {seconds:g} s (seed {seed}, version {VERSION})"
    return Corpus(name, made, None if corpus.commit is None else f"{corpus.commit}, {_digest(made)}")


def _digest(recordings: Sequence[Utterance]) -> str:
    """Of which utterances the recordings are."""
    return hashlib.sha256(json.dumps([one.parts for one in recordings]).encode()).hexdigest()[:16]


def _filled(utterances: Sequence[Utterance], seconds: float) -> Iterator[list[Utterance]]:
    """As many utterances at a time as it takes."""
    own: list[Utterance] = []
    length = -SILENCE
    for utterance in utterances:
        own.append(utterance)
        length += SILENCE + utterance.seconds()
        if length >= seconds:
            yield own
            own, length = [], -SILENCE
    if own:
        yield own


def _recording(number: int, parts: Sequence[Utterance]) -> Utterance:
    return Utterance(
        f"{number:04} of {len(parts)} from {parts[0].id}",
        None,
        " ".join(part.text for part in parts),
        partial(_audio, parts),
        parts[0].language,
        tuple(id for part in parts for id in part.parts or (part.id,)),
        tuple(source for part in parts for source in part.sources or (part,)),
    )


def _audio(parts: Sequence[Utterance]) -> bytes:
    """A WAV file with the samples of all, as they are decoded."""
    import soundfile

    silence = np.zeros(round(SILENCE * SAMPLE_RATE), np.float32)
    pieces = [piece for part in parts for piece in (silence, part.waveform())][1:]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(pieces), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()
