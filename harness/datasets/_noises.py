"""Noises that are made from a seed: white, pink, hum of mains, and tones as of music."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from harness.datasets._channels import SAMPLE_RATE, Samples

_HARMONICS = 20
_NOTE = 0.25
"""Seconds of a note."""


def generator(*key: Any) -> np.random.Generator:
    """Random numbers that depend on the values of `key` alone, in no other order and on no other machine."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def made(kind: str, samples: int, rng: np.random.Generator) -> Samples:
    """So many samples of a noise, of no particular level, in float64."""
    return _MAKERS[kind](samples, rng)


def _white(samples: int, rng: np.random.Generator) -> Samples:
    return rng.standard_normal(samples)


def _pink(samples: int, rng: np.random.Generator) -> Samples:
    """Power falls by 3 dB an octave; nothing at frequency 0."""
    count = max(samples, 4)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    places = np.arange(len(spectrum))
    return np.fft.irfft(np.where(places > 0, spectrum / np.sqrt(np.maximum(places, 1)), 0), count)[:samples]


def _hum(samples: int, rng: np.random.Generator) -> Samples:
    """Harmonics of 50 or 60 Hz, of random phases, amplitudes falling as 1 / k."""
    time, base = np.arange(samples) / SAMPLE_RATE, rng.choice([50, 60])
    phases = rng.uniform(0, 2 * np.pi, _HARMONICS)
    return np.sum([np.sin(2 * np.pi * base * k * time + p) / k for k, p in enumerate(phases, 1)], axis=0)


def _tones(samples: int, rng: np.random.Generator) -> Samples:
    """Notes of a quarter of a second from a pentatonic scale, each with its octave and fifth above, fading."""
    note = round(_NOTE * SAMPLE_RATE)
    time = np.arange(note) / SAMPLE_RATE
    count = -(-samples // note)
    pitches = 220 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14, 16], count) / 12)
    fading = np.exp(-4 * time) * np.minimum(1, time / 0.005)
    notes = [fading * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3)) for pitch in pitches]
    return np.concatenate(notes)[:samples]


_MAKERS = {"white": _white, "pink": _pink, "hum": _hum, "tones": _tones}
