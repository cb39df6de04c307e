"""Training speech, kept as ready log-mel features, and the speech that is shipped.

Training examples are drawn from their own generators by (seed, shard), so any number of processes
builds the same corpus. Features are stored unpadded as fp16 in one flat file per shard.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from transformers import WhisperFeatureExtractor

from harness.embedded import _acoustics, _voices
from harness.embedded._architecture import WINDOW_SECONDS
from harness.embedded._sentences import fragment, sentences
from harness.embedded._voices import SAMPLE_RATE, Synthesizer, Voice, Waveform

UTTERANCES_PER_SPEAKER = 21
_TEST_SEED, _TRAIN_SEED = 777, 1
_LONGEST = int((WINDOW_SECONDS - 0.1) * SAMPLE_RATE)
_SHIPPED = {"clean": (101, 7), "other": (201, 8), "calibration": (301, 9)}


def held_out_sentences() -> list[str]:
    """Every sentence that a shipped utterance may contain (calibration included); none is trained on."""
    return list(itertools.islice(sentences(_TEST_SEED), 2000))


@dataclass(frozen=True)
class Lesson:
    """One part of the curriculum: `texts` synthesised utterances, each under `takes` acoustic conditions."""

    name: str
    texts: int
    takes: int


LESSONS = (Lesson("fragments", 40_000, 1), Lesson("sentences", 60_000, 2))


def build_lesson(
    lesson: Lesson, directory: Path, shard: int, shards: int, stored: Callable[[Waveform], np.ndarray] | None = None
) -> None:
    """Write `<lesson>.<shard>.bin` and `<lesson>.<shard>.json` (offset, frames, text).

    Args:
        lesson: to be written.
        directory, shard, shards: where, and which part of it.
        stored: what is kept of an utterance, frames first; its log-mel features, fp16, without it.
    """
    rng = random.Random(f"{lesson.name}-{shard}-{shards}")
    acoustics = _acoustics.Acoustics(np.random.default_rng(rng.randrange(2**32)))
    synthesizer = Synthesizer()
    extractor = WhisperFeatureExtractor(chunk_length=WINDOW_SECONDS, hop_length=320)
    index: list[tuple[int, int, str]] = []
    end = 0
    with (directory / f"{lesson.name}.{shard}.bin").open("wb") as file:
        for text in itertools.islice(_lesson_texts(lesson, rng), shard, lesson.texts, shards):
            spoken = synthesizer.speak(text, _voices.training_voice(rng))
            for _ in range(lesson.takes):
                heard = acoustics.apply(spoken, _acoustics.TRAINING)
                if len(heard) > _LONGEST:
                    continue
                features = log_mel(heard, extractor) if stored is None else stored(heard)
                file.write(features.tobytes())
                index.append((end, len(features), text))
                end += len(features)
    (directory / f"{lesson.name}.{shard}.json").write_text(json.dumps(index))


def _lesson_texts(lesson: Lesson, rng: random.Random) -> Iterator[str]:
    held_out = set(held_out_sentences())
    for sentence in sentences(_TRAIN_SEED, held_out):
        text = fragment(sentence, rng) if lesson.name == "fragments" else sentence
        if text not in held_out:
            yield text


def log_mel(waveform: Waveform, extractor: WhisperFeatureExtractor) -> np.ndarray:
    """Whisper's log-mel features without the padding to the window: fp16, shape (frames, 80).

    The value of Whisper's padding is `features.max() - 2` (its clamp at 8 below the maximum, divided by 4).
    """
    padded = np.pad(waveform, (0, 400))
    features = extractor(padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np")
    return np.ascontiguousarray(features.input_features[0].T.astype(np.float16))


def write_speech(directory: Path) -> None:
    """Write the splits `clean`, `other` and `calibration` in LibriSpeech's layout as Opus-in-Ogg, with SPEAKERS.TXT.

    Calibration speech has training voices under training conditions, and sentences of its own.
    """
    texts = iter(held_out_sentences())
    synthesizer = Synthesizer()
    training = random.Random(26)
    speakers = {
        "clean": _voices.clean_speakers(),
        "other": _voices.other_speakers(),
        "calibration": [_voices.training_voice(training) for _ in range(16)],
    }
    conditions = {"clean": _acoustics.CLEAN, "other": _acoustics.OTHER, "calibration": _acoustics.TRAINING}
    lines = [";ID |SUBSET |ENGINE |VOICE"]
    for split, (first_id, seed) in _SHIPPED.items():
        acoustics = _acoustics.Acoustics(np.random.default_rng(seed))
        for speaker, voice in enumerate(speakers[split], first_id):
            lines.append(f"{speaker} | {split} | {voice.engine} | {voice.name}")
            count = 8 if split == "calibration" else UTTERANCES_PER_SPEAKER
            spoken = _speak(voice, speaker, synthesizer, acoustics, conditions[split], texts)
            _write_chapter(directory / split, speaker, itertools.islice(spoken, count))
    (directory / "SPEAKERS.TXT").write_text("\n".join(lines) + "\n")


def _speak(
    voice: Voice,
    seed: int,
    synthesizer: Synthesizer,
    acoustics: _acoustics.Acoustics,
    conditions: _acoustics.Conditions,
    texts: Iterator[str],
) -> Iterator[tuple[str, Waveform]]:
    rng = random.Random(seed)
    for text in texts:
        heard = acoustics.apply(synthesizer.speak(text, _voices.vary(voice, rng)), conditions)
        if len(heard) <= _LONGEST:
            yield text, heard


def _write_chapter(directory: Path, speaker: int, utterances: Iterator[tuple[str, Waveform]]) -> None:
    chapter = directory / str(speaker) / "1"
    chapter.mkdir(parents=True)
    transcript = []
    for number, (text, heard) in enumerate(utterances):
        name = f"{speaker}-1-{number:04d}"
        soundfile.write(chapter / f"{name}.ogg", heard, SAMPLE_RATE, format="OGG", subtype="OPUS")
        transcript.append(f"{name} {text.upper()}")
    (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(transcript) + "\n")
