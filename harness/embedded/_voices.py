"""The voices of the embedded benchmark: eSpeak NG and Flite, called in process through ctypes.

Both come as Debian packages (`espeak-ng`, `flite`). A *voice* is an engine, a named timbre and an
accent; the timbres of the split `other` are never heard in training.
"""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import soxr

SAMPLE_RATE = 16_000
Waveform = npt.NDArray[np.float32]

_ACCENTS = "en-us en-us en-us en en en-gb-x-rp en-gb-x-gbclan en-gb-scotland en-us-nyc".split()
_TIMBRES = (
    "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 adam Alex Alicia Andrea antonio aunty benjamin boris david Denis Diogo ed "
    "edward Gene gustave iven iven2 iven3 john klatt klatt2 klatt3 Lee marcelo Mario max michel norbert paul pedro "
    "quincy rob robert shelby Storm travis Tweaky victor zac steph steph3 RicishayMax RicishayMax2"
).split()
_HELD_OUT_TIMBRES = (
    "m8 f5 Andy Annie Michael linda steph2 edward2 Gene2 grandma grandpa Nguyen announcer anika belinda caleb Henrique "
    "Hugo Jacky Marco miguel Mike pablo sandro"
).split()
_HELD_OUT_ACCENTS = ("en-029", "en-gb-x-gbcwmd")
_FLITE_PITCH = {"slt": 170.0, "rms": 100.0, "awb": 110.0, "kal16": 100.0}  # Hz, the speakers' own mean


@dataclass(frozen=True)
class Voice:
    """How one utterance is spoken.

    Attributes:
        engine: `espeak` or `flite`.
        name: the engine's own name, e.g. `en-us+f2` or `slt`.
        speed: relative speaking rate, 1 is the engine's default.
        pitch: relative mean pitch, 1 is the engine's default.
        variation: relative pitch variation, 1 is the engine's default.
    """

    engine: str
    name: str
    speed: float = 1.0
    pitch: float = 1.0
    variation: float = 1.0


def training_voice(rng: random.Random) -> Voice:
    """A random voice for training: any timbre that is not held out, at any rate and pitch."""
    if rng.random() < 0.40:
        name = rng.choices(["slt", "rms", "awb", "kal16"], [0.34, 0.26, 0.26, 0.14])[0]
        return Voice("flite", name, rng.uniform(0.85, 1.2), rng.uniform(0.8, 1.25), rng.uniform(0.7, 1.6))
    name = f"{rng.choice(_ACCENTS)}+{rng.choice(_TIMBRES)}"
    return Voice("espeak", name, rng.uniform(0.78, 1.25), rng.uniform(0.3, 1.7), rng.uniform(0.6, 1.6))


def clean_speakers() -> list[Voice]:
    """The 24 speakers of `clean`: timbres known from training, each at a steady rate and pitch."""
    rng = random.Random(24)
    espeak = [
        Voice("espeak", f"{rng.choice(_ACCENTS)}+{timbre}", rng.uniform(1.05, 1.35), rng.uniform(0.7, 1.3))
        for timbre in rng.sample(_TIMBRES, 20)
    ]
    return espeak + [Voice("flite", name, rng.uniform(1.05, 1.2)) for name in _FLITE_PITCH]


def other_speakers() -> list[Voice]:
    """The 24 speakers of `other`: held-out timbres, a quarter of them with a held-out accent."""
    rng = random.Random(25)
    return [
        Voice(
            "espeak",
            f"{rng.choice(_HELD_OUT_ACCENTS if i % 4 == 0 else _ACCENTS)}+{timbre}",
            rng.uniform(0.95, 1.4),
            rng.uniform(0.5, 1.5),
        )
        for i, timbre in enumerate(_HELD_OUT_TIMBRES)
    ]


def vary(voice: Voice, rng: random.Random) -> Voice:
    """The same voice, speaking a little faster or slower, higher or lower, as people do."""
    return replace(voice, speed=voice.speed * rng.uniform(0.96, 1.04), pitch=voice.pitch * rng.uniform(0.94, 1.06))


class _Espeak:
    """eSpeak NG through its C interface; at most one instance a process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        synchronous = 2
        self._rate = self._library.espeak_Initialize(synchronous, 500, None, 0)
        self._chunks: list[npt.NDArray[np.int16]] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._collect)  # kept: the library holds only the address
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: Voice) -> Waveform:
        self._chunks.clear()
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice.name!r}: install the Debian package espeak-ng")
        rate, pitch, pitch_range = 1, 3, 4
        for parameter, value in (
            (rate, 175 * voice.speed),
            (pitch, 50 * voice.pitch),
            (pitch_range, 50 * voice.variation),
        ):
            self._library.espeak_SetParameter(parameter, round(value), 0)
        data = text.encode()
        utf8 = 1
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, utf8, None, None)
        self._library.espeak_Synchronize()
        return _to_16k(np.concatenate(self._chunks), self._rate)


class _FliteWave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("samples", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_short)),
    )


class _FliteVoice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


class _Flite:
    """Flite through its C interface, with the four CMU US English voices."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        for name in ("usenglish", "cmulex"):
            ctypes.CDLL(f"libflite_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
        self._library.flite_init()
        self._library.flite_text_to_wave.restype = ctypes.POINTER(_FliteWave)
        self._library.flite_text_to_wave.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        self._library.flite_feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self._library.delete_wave.argtypes = [ctypes.c_void_p]
        self._voices = {name: self._register(name) for name in _FLITE_PITCH}

    @staticmethod
    def _register(name: str) -> ctypes._Pointer[_FliteVoice]:
        register = getattr(
            ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", mode=ctypes.RTLD_GLOBAL), f"register_cmu_us_{name}"
        )
        register.restype = ctypes.POINTER(_FliteVoice)
        register.argtypes = [ctypes.c_char_p]
        voice: ctypes._Pointer[_FliteVoice] = register(None)
        return voice

    def speak(self, text: str, voice: Voice) -> Waveform:
        flite = self._voices[voice.name]
        for feature, value in (
            (b"duration_stretch", 1 / voice.speed),
            (b"int_f0_target_mean", _FLITE_PITCH[voice.name] * voice.pitch),
            (b"int_f0_target_stddev", 12.0 * voice.variation),
        ):
            self._library.flite_feat_set_float(flite.contents.features, feature, value)
        wave = self._library.flite_text_to_wave(text.encode(), flite)
        samples = np.ctypeslib.as_array(wave.contents.data, (wave.contents.samples,)).copy()
        rate = wave.contents.sample_rate
        self._library.delete_wave(wave)
        return _to_16k(samples, rate)


def _to_16k(samples: npt.NDArray[np.int16], rate: int) -> Waveform:
    waveform: Waveform = samples.astype(np.float32) / np.float32(32768)
    return waveform if rate == SAMPLE_RATE else soxr.resample(waveform, rate, SAMPLE_RATE).astype(np.float32)


class Synthesizer:
    """Both engines behind one call."""

    def __init__(self) -> None:
        self._engines: dict[str, _Espeak | _Flite] = {"espeak": _Espeak(), "flite": _Flite()}

    def speak(self, text: str, voice: Voice) -> Waveform:
        """Return `text` spoken by `voice`: float32 mono at 16 kHz, silence at both ends trimmed.

        Deterministic for the same engine version. Raises `ValueError` for an unknown voice.
        """
        waveform = self._engines[voice.engine].speak(text, voice)
        loud = np.flatnonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())
        return waveform[max(0, loud[0] - 800) : loud[-1] + 1600] if len(loud) else waveform
