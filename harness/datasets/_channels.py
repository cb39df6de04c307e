"""What a room, a gain, a telephone and a faster tape make of samples, and how loud speech is.

Waveforms are float32 or float64 at 16 kHz, (samples,), full scale 1; each function returns a new one in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
Samples = npt.NDArray[Any]
_SMOOTHING = 0.03
_HANGOVER = 0.2
_MARGIN_DB = 15.9
_THRESHOLDS = 16
_SEGMENT_BIAS = 33
_MU_LAW_SCALE = 8192


def mean_power(waveform: Samples) -> float:
    """Mean square of the samples."""
    return float(np.mean(np.square(waveform, dtype=np.float64)))


def active_power(waveform: Samples) -> float:
    """Mean square of the samples while there is speech: pauses of more than 0.2 s do not count. 0 for digital silence.

    The lowest threshold is found that lies no more than 15.9 dB below the level of the speech above it: thresholds are
    6 dB apart up to the envelope's maximum, levels interpolated (in dB) between them.

    Source: ITU-T P.56 (2011), method B; time constant 0.03 s, hangover 0.2 s, margin 15.9 dB.
    """
    from scipy.signal import lfilter

    energy = float(np.square(waveform, dtype=np.float64).sum())
    kept = math.exp(-1 / (SAMPLE_RATE * _SMOOTHING))
    envelope = np.abs(waveform.astype(np.float64))
    for _ in range(2):
        envelope = lfilter([1 - kept], [1, -kept], envelope)
    if energy == 0 or envelope.max() == 0:
        return 0.0
    below: tuple[float, float] | None = None
    for threshold in envelope.max() / 2.0 ** np.arange(_THRESHOLDS)[::-1]:
        level = 10 * math.log10(energy / _active(envelope >= threshold))
        above = level - 20 * math.log10(threshold)
        if below is not None and above <= _MARGIN_DB:
            part = (below[1] - _MARGIN_DB) / (below[1] - above)
            return float(10 ** ((below[0] + part * (level - below[0])) / 10))
        below = (level, above)
    return mean_power(waveform)


def _active(loud: npt.NDArray[np.bool_]) -> int:
    """Samples that are loud, or follow a loud one within the hangover."""
    places = np.arange(len(loud))
    last = np.maximum.accumulate(np.where(loud, places, -len(loud) - SAMPLE_RATE))
    return int((places - last <= _HANGOVER * SAMPLE_RATE).sum())


def faster(waveform: Samples, factor: float) -> Samples:
    """So many times as fast, pitch with it: resampled.

    Source: Ko et al. 2015, "Audio Augmentation for Speech Recognition", Interspeech (speed perturbation).
    """
    import soxr

    return np.asarray(soxr.resample(waveform.astype(np.float64), SAMPLE_RATE * factor, SAMPLE_RATE))


def reverberated(waveform: Samples, seconds: float, rng: np.random.Generator) -> Samples:
    """In a room whose sound falls by 60 dB in `seconds`; what rings on behind the end is cut.

    Behind the direct sound comes Gaussian noise that decays exponentially, with as much energy; both are scaled so that
    their energies sum to 1.

    Source: Polack 1988 (the statistical model of a diffuse room).
    """
    from scipy.signal import fftconvolve

    count = max(1, round(seconds * SAMPLE_RATE))
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    response = np.concatenate([[1.0], tail / np.sqrt(np.square(tail).sum())]) / math.sqrt(2)
    return np.asarray(fftconvolve(waveform.astype(np.float64), response)[: len(waveform)])


def amplified(waveform: Samples, gain_db: float) -> Samples:
    """Louder, and clipped at full scale."""
    return np.clip(waveform.astype(np.float64) * 10 ** (gain_db / 20), -1.0, 1.0)


def telephoned(waveform: Samples) -> Samples:
    """Sampled at 8 kHz, coded in mu-law, and sampled at 16 kHz again; no other filter."""
    import soxr

    narrow = soxr.resample(waveform.astype(np.float64), SAMPLE_RATE, SAMPLE_RATE // 2)
    wide = soxr.resample(mu_law(narrow), SAMPLE_RATE // 2, SAMPLE_RATE)[: len(waveform)]
    return np.pad(wide, (0, len(waveform) - len(wide)))


def mu_law(waveform: Samples) -> Samples:
    """Each sample as the nearest of the 255 values of mu-law; what is beyond the largest becomes that.

    Source: ITU-T G.711 (1988): segments s of 16 steps m, values ((2 m + 33) 2^s - 33), here over 8192.
    """
    steps, segments = np.arange(16), np.arange(8)
    values = ((2 * steps + _SEGMENT_BIAS) * 2 ** segments[:, None] - _SEGMENT_BIAS).ravel() / _MU_LAW_SCALE
    nearest = np.searchsorted((values[1:] + values[:-1]) / 2, np.abs(waveform), side="right")
    return np.sign(waveform) * values[nearest]
