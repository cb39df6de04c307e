"""How noisy a recording is, estimated from its level alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME = 400
"""Samples of a frame: 25 ms at 16 kHz."""


def estimated_snr(waveform: npt.NDArray[np.float32]) -> float:
    """Level of the loud frames (95th percentile) over that of the quiet ones (10th), in dB.

    A crude estimate of the signal-to-noise ratio of speech with pauses: good for sorting recordings, not for
    comparing with ratios that were set. Recordings of fewer than two frames have 0 dB; at most 100 dB.

    >>> noise = np.ones(16000, np.float32)
    >>> estimated_snr(noise)
    0.0
    >>> noise[8000:] *= 10
    >>> round(estimated_snr(noise))
    20
    """
    count = len(waveform) // FRAME
    if count < 2:
        return 0.0
    energy = np.square(waveform[: count * FRAME].astype(np.float64)).reshape(count, FRAME).mean(1)
    quiet, loud = np.percentile(energy, [10, 95])
    if loud <= 0:
        return 0.0
    return float(min(10 * np.log10(loud / max(quiet, 1e-30)), 100.0))
