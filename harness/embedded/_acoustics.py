"""Rooms, channels and noises: what happens to a synthesised utterance before it is heard."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

from harness.embedded._voices import SAMPLE_RATE, Waveform

Spectrum = npt.NDArray[np.complexfloating]
_NOISES = ("white", "pink", "brown", "hum", "band", "babble", "babble")
_CLIP_SECONDS = 8
_CLIPS_PER_NOISE = 40


@dataclass(frozen=True)
class Conditions:
    """Ranges from which one utterance's acoustics are drawn; probabilities in [0, 1], noise in dB SNR."""

    rate: tuple[float, float]
    reverberation: float
    band_pass: float
    noise: float
    snr: tuple[float, float]
    silence: tuple[float, float]
    level: tuple[float, float]


TRAINING = Conditions((0.87, 1.16), 0.3, 0.15, 0.85, (4, 42), (0.0, 0.25), (0.1, 0.95))
CLEAN = Conditions((0.97, 1.03), 0.3, 0.0, 1.0, (1, 15), (0.02, 0.2), (0.3, 0.9))
OTHER = Conditions((0.9, 1.12), 0.6, 0.2, 1.0, (-2, 12), (0.02, 0.2), (0.3, 0.9))


@dataclass
class Acoustics:
    """Applies `Conditions` to waveforms; keeps past utterances as material for babble noise."""

    rng: np.random.Generator
    _babble: list[Waveform] = field(default_factory=list)
    _clips: dict[str, list[Waveform]] = field(default_factory=dict)

    def apply(self, waveform: Waveform, conditions: Conditions) -> Waveform:
        """Return a new waveform (float32, 16 kHz) under `conditions`; the argument is kept for babble."""
        heard = _change_rate(waveform, self.rng.uniform(*conditions.rate))
        if self.rng.random() < conditions.reverberation:
            heard = self._reverberate(heard)
        if self.rng.random() < conditions.band_pass:
            heard = self._band_pass(heard)
        before, after = (int(self.rng.uniform(*conditions.silence) * SAMPLE_RATE) for _ in range(2))
        heard = np.pad(heard, (before, after))
        if self.rng.random() < conditions.noise:
            heard = self._add_noise(heard, self.rng.uniform(*conditions.snr))
        self._remember(waveform)
        return (heard / (np.abs(heard).max() + 1e-9) * self.rng.uniform(*conditions.level)).astype(np.float32)

    def _remember(self, waveform: Waveform) -> None:
        if len(self._babble) < 200:
            self._babble.append(waveform)
        else:
            self._babble[self.rng.integers(200)] = waveform

    def _reverberate(self, waveform: Waveform) -> Waveform:
        length = int(self.rng.uniform(0.1, 0.5) * SAMPLE_RATE)
        tail = self.rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
        tail *= self.rng.uniform(0.2, 0.7) / np.sqrt((tail**2).sum())
        tail[0] = 1.0
        return fftconvolve(waveform, tail)[: len(waveform) + 1600].astype(np.float32)

    def _band_pass(self, waveform: Waveform) -> Waveform:
        edges = [self.rng.uniform(80, 350), self.rng.uniform(3000, 6500)]
        return sosfilt(butter(2, edges, "band", fs=SAMPLE_RATE, output="sos"), waveform).astype(np.float32)

    def _add_noise(self, waveform: Waveform, snr: float) -> Waveform:
        kind = self.rng.choice(_NOISES)
        noise = self._speakers(len(waveform)) if kind == "babble" else self._clip(len(waveform), str(kind))
        return waveform + noise * (waveform.std() / (noise.std() + 1e-9)) * 10 ** (-snr / 20)

    def _speakers(self, length: int) -> Waveform:
        if len(self._babble) < 10:
            return self._clip(length, "pink")
        chosen = [self._babble[i] for i in self.rng.integers(len(self._babble), size=self.rng.integers(3, 7))]
        rolled = [np.roll(np.resize(w, length), self.rng.integers(length)) / (w.std() + 1e-6) for w in chosen]
        return np.sum(rolled, axis=0, dtype=np.float32)

    def _clip(self, length: int, kind: str) -> Waveform:
        if kind not in self._clips:
            self._clips[kind] = [self._coloured(kind) for _ in range(_CLIPS_PER_NOISE)]
        clip = self._clips[kind][self.rng.integers(_CLIPS_PER_NOISE)]
        start = self.rng.integers(len(clip) - length)
        return clip[start : start + length]

    def _coloured(self, kind: str) -> Waveform:
        count = _CLIP_SECONDS * SAMPLE_RATE
        time = np.arange(count) / SAMPLE_RATE
        white = self.rng.standard_normal(count)
        if kind == "hum":
            base = self.rng.uniform(50, 180)
            partials = [np.sin(2 * np.pi * base * k * time + self.rng.uniform(0, 6)) / k for k in range(1, 12)]
            return (np.sum(partials, axis=0) + 0.1 * white).astype(np.float32)
        spectrum = self._shape(np.fft.rfft(white), kind)
        swell = 1 + 0.6 * np.sin(2 * np.pi * self.rng.uniform(0.3, 4) * time)
        return (np.fft.irfft(spectrum, count) * swell).astype(np.float32)

    def _shape(self, spectrum: Spectrum, kind: str) -> Spectrum:
        bins = np.arange(1, len(spectrum) + 1)
        if kind == "band":
            centre, width = self.rng.uniform(0.05, 0.8), self.rng.uniform(0.03, 0.2)
            return spectrum * np.exp(-(((bins / len(bins) - centre) / width) ** 2))
        exponent = {"white": 0.0, "pink": 0.5, "brown": 0.9}[kind]
        return spectrum / bins**exponent


def _change_rate(waveform: Waveform, factor: float) -> Waveform:
    """Faster or slower, pitch and formants with it."""
    if abs(factor - 1) < 0.006:
        return waveform
    return soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)
