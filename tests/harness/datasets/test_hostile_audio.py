"""Recordings that are broken, cut, or not what they say: each is one sentence or its right samples."""

import math

import numpy as np
import pandas
import pytest
import soundfile

from harness.datasets import Utterance
from harness.errors import DataError
from tests.harness.checkpoints import save_moonshine
from tests.harness.hostile import run

SAMPLES = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def encoded(path, samples=SAMPLES, rate=16_000, **settings):
    soundfile.write(path, samples, rate, **settings)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:9000])
    return path


def text(path):
    path.write_text("speech " * 2000)
    return path


def not_numbers(path, value):
    samples = SAMPLES.copy()
    samples[7] = value
    return encoded(path, samples, subtype="FLOAT")


def made_of(path, head):
    path.write_bytes(head + bytes(5000))
    return path


def piped(path, samples, behind=b""):
    """A WAV whose header says that it has no samples."""
    head = bytearray(encoded(path).read_bytes()[:44])
    head[4:8] = head[40:44] = bytes(4)
    path.write_bytes(bytes(head) + samples + behind)
    return path


UNHEARD = {
    "cut.flac": (lambda path: cut(encoded(path)), "cannot be decoded"),
    "empty.wav": (lambda path: encoded(path, SAMPLES[:0]), "the audio is empty"),
    "nothing.wav": (lambda path: path.touch() or path, "cannot be decoded"),
    "text.wav": (text, "cannot be decoded"),
    "nan.wav": (lambda path: not_numbers(path, math.nan), "are not numbers"),
    "infinite.wav": (lambda path: not_numbers(path, math.inf), "are not numbers"),
    "opposite.wav": (lambda path: encoded(path, np.stack([SAMPLES, -SAMPLES], 1)), "channels cancel out"),
    "speech.m4a": (lambda path: made_of(path, b"\0\0\0 ftypM4A "), "WAV, FLAC, OGG, MP3 and AIFF are read"),
    "speech.webm": (lambda path: made_of(path, b"\x1aE\xdf\xa3\x9fB\x86\x81"), "WAV, FLAC, OGG, MP3 and AIFF are read"),
    "silent_chunk.wav": (lambda path: piped(path, b"", b"LIST\4\0\0\0INFO"), "the audio is empty"),
    "raw.raw": (lambda path: path.write_bytes(SAMPLES.tobytes()) and path, "cannot be decoded"),
}
HEARD = {
    "eight.wav": (lambda path: encoded(path, np.stack([SAMPLES] * 8, 1), 48_000), 16_000 / 3),
    "fast.wav": (lambda path: encoded(path, SAMPLES, 192_000), 16_000 / 12),
    "short.wav": (lambda path: encoded(path, SAMPLES[:160]), 160),
    "really_flac.txt": (lambda path: encoded(path, format="FLAC"), 16_000),
    "cut.wav": (lambda path: cut(encoded(path)), (9000 - 44) / 2),
    "piped.wav": (lambda path: piped(path, encoded(path).read_bytes()[44:]), 16_000),
    "one_channel.wav": (lambda path: encoded(path, np.stack([SAMPLES, 0 * SAMPLES], 1)), 16_000),
}


@pytest.mark.parametrize("name", UNHEARD)
def test_what_cannot_be_heard_is_one_sentence(tmp_path, name):
    make, reason = UNHEARD[name]
    utterance = Utterance("u", "s", "text", make(tmp_path / name))
    with pytest.raises(DataError, match=reason) as raised:
        utterance.waveform()
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", HEARD)
def test_what_can_be_heard_is(tmp_path, name):
    make, samples = HEARD[name]
    waveform = Utterance("u", "s", "text", make(tmp_path / name)).waveform()
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(samples, abs=1)
    assert np.isfinite(waveform).all()


def test_pieces_are_resampled_as_one(tmp_path):
    import soxr

    samples = np.random.default_rng(1).standard_normal(900_000).astype(np.float32)
    waveform = Utterance("u", "s", "", encoded(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")).waveform()
    assert np.abs(waveform - soxr.resample(samples, 44_100, 16_000)).max() < 1e-4


@pytest.mark.parametrize("architecture", ["whisper", "moonshine"])
def test_bad_recordings_cost_their_own_rows(tmp_path, architecture):
    folder = tmp_path / "speech"
    folder.mkdir()
    made = [(name, make) for name, (make, _) in {**UNHEARD, **HEARD}.items()]
    for name, make in [*made, ("good.wav", encoded), ("long.flac", lambda p: encoded(p, np.tile(SAMPLES, 130)))]:
        make(folder / name)
    names = sorted(path.name for path in folder.iterdir())
    pandas.DataFrame({"file_name": names, "text": "some words"}).to_csv(folder / "metadata.csv", index=False)
    model = "embedded" if architecture == "whisper" else save_moonshine(tmp_path / "model")
    data = f'{{ dataset = "folder", root = "{folder}" }}'
    assert run(tmp_path, model, data) == 0
    rows = pandas.read_parquet(tmp_path / "hostile" / "results.parquet")
    assert set(rows["status"]) == {"done"}
    unheard = {*UNHEARD, *(["long.flac"] if architecture == "moonshine" else [])}
    assert set(rows["utterances"]) == {len(names) - len(unheard)}
    assert set(rows["reference_words"]) == {2 * (len(names) - len(unheard))}
    assert rows["reason"].str.contains(f"{len(unheard)} of {len(names)} utterances could not be decoded, such as").all()
    cell = tmp_path / "hostile" / "cells" / rows["cell_id"][0]
    utterances = pandas.read_parquet(cell / "utterances.parquet").set_index("id")
    assert set(utterances[utterances["error"].notna()].index) == unheard


def test_nothing_to_be_heard_is_said(tmp_path):
    folder = tmp_path / "speech"
    folder.mkdir()
    text(folder / "a.wav")
    pandas.DataFrame({"file_name": ["a.wav"], "text": "some words"}).to_csv(folder / "metadata.csv", index=False)
    assert run(tmp_path, "embedded", f'{{ dataset = "folder", root = "{folder}" }}') == 1
    rows = pandas.read_parquet(tmp_path / "hostile" / "results.parquet")
    assert rows["reason"].str.contains("not one utterance can be decoded").all()
