"""Audio files as samples: any format of libsndfile, averaged to one channel, at 16 kHz."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import DataError

SAMPLE_RATE = 16_000
Waveform = npt.NDArray[np.float32]
_UNDECODABLE = (OSError, RuntimeError, ValueError, TypeError)
"""What soundfile raises."""
_BLOCK = 1 << 18
"""Frames that are decoded at a time."""
_LEFT = 0.01
"""Of the energy of channels, what must be left of it in their average."""


def decoded(opened: Callable[[], Any], origin: str) -> Waveform:
    """Decode a file to float32 mono at 16 kHz, shape (samples,); several channels are averaged.

    It is read piece by piece: no more is in memory than what comes back.

    Raises:
        DataError: the audio cannot be decoded, is shorter than it says, empty, or has samples that are no numbers;
            `origin` is named.
    """
    import soundfile
    import soxr

    energy = _Energy()
    try:
        with opened() as source, soundfile.SoundFile(_whole(source)) as file:
            pieces: Iterator[Waveform] = map(energy.averaged, file.blocks(_BLOCK, dtype="float32", always_2d=True))
            if file.samplerate != SAMPLE_RATE:
                pieces = _resampled(pieces, soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, "float32"))
            waveform = np.concatenate([np.zeros(0, np.float32), *pieces])
            missing = file.frames - file.tell()
    except _UNDECODABLE as error:
        raise DataError(f"{origin}: {_why(error)}") from None
    if missing > 0:
        raise DataError(f"{origin}: the audio ends {missing} samples too early; copy the file again")
    if not len(waveform):
        raise DataError(f"{origin}: the audio is empty")
    if not np.isfinite(waveform).all():
        raise DataError(f"{origin}: some samples of the audio are not numbers")
    if energy.cancels:
        raise DataError(
            f"{origin}: its channels cancel out when they are averaged (one is the other turned over); "
            "store one of them"
        )
    return waveform


def seconds_of(opened: Callable[[], Any], origin: str) -> float:
    """Length of the audio in a file, from its header.

    Raises:
        DataError: it has none that can be read; `origin` is named.
    """
    import soundfile

    try:
        with opened() as source:
            return float(soundfile.info(_whole(source)).duration)
    except _UNDECODABLE as error:
        raise DataError(f"{origin}: {_why(error)}") from None


def _why(error: Exception) -> str:
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    unknown = "; WAV, FLAC, OGG, MP3 and AIFF are read, so convert it to one of them (ffmpeg -i FILE FILE.wav)"
    return f"the audio cannot be decoded: {reason}{unknown if 'not recognised' in reason else ''}"


class _Energy:
    """Averages channels, and remembers how much of them is left."""

    def __init__(self) -> None:
        self._before = self._after = 0.0

    def averaged(self, piece: Waveform) -> Waveform:
        """Frames of one channel from frames of several, (frames, channels)."""
        mono: Waveform = piece.mean(axis=1)
        self._before += float(np.square(piece, dtype=np.float64).sum()) / piece.shape[1]
        self._after += float(np.square(mono, dtype=np.float64).sum())
        return mono

    @property
    def cancels(self) -> bool:
        """Whether less than a hundredth is left: of independent channels it is a half, of one silent channel too."""
        return self._after < _LEFT * self._before


def _whole(source: Any) -> Any:
    """The opened file; of a WAV that says that it has no samples, and has some behind it, a copy that says how many.

    Programs that write into a pipe cannot go back and fill the length in.
    """
    place = _unknown_length(source)
    source.seek(0)
    if place is None:
        return source
    content = bytearray(source.read())
    content[place : place + 4] = (len(content) - place - 4).to_bytes(4, "little")
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    return io.BytesIO(bytes(content))


def _unknown_length(source: Any) -> int | None:
    """Where a WAV has the length of its samples, if that is 0 and there are some; only headers are read."""
    head = source.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    while len(chunk := source.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            place = source.tell() - 4
            behind = source.read(8)
            rest = source.seek(0, io.SEEK_END) - place - 4
            return None if length or _is_chunk(behind, rest) else place
        source.seek(length + length % 2, io.SEEK_CUR)
    return None


def _is_chunk(head: bytes, rest: int) -> bool:
    """Whether what is left, so many bytes, is nothing, or another chunk of a RIFF file up to its end."""
    if rest < 8:
        return not rest
    return head[:4].isalnum() and 8 + int.from_bytes(head[4:], "little") in (rest, rest - 1)


def _resampled(pieces: Iterator[Waveform], stream: Any) -> Iterator[Waveform]:
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
