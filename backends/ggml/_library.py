"""whisper.cpp and ggml as the wheel `pywhispercpp` brings them, called by their C interfaces.

Parameters are passed by value, so that their layout must be that of the wheel's release: another release is refused by
name. What would end the process in the library (a row that a type does not divide, a token or position out of range) is
checked before a call.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.core.errors import ModelError, UnsupportedError
from backends.ggml._types import F16, TensorType

PACKAGE = "pywhispercpp"
RELEASE = "1.8.5"
"""Of whisper.cpp, whose parameters have the layout below."""
Floats = NDArray[np.float32]
_REFLECTED = 200
"""So many samples whisper.cpp reads beyond the first, whether they are there or not."""


class _Parameters(ctypes.Structure):
    """`whisper_context_params` of the release."""

    _fields_ = (
        ("use_gpu", ctypes.c_bool),
        ("flash_attn", ctypes.c_bool),
        ("gpu_device", ctypes.c_int),
        ("dtw_token_timestamps", ctypes.c_bool),
        ("dtw_aheads_preset", ctypes.c_int),
        ("dtw_n_top", ctypes.c_int),
        ("dtw_n_heads", ctypes.c_size_t),
        ("dtw_heads", ctypes.c_void_p),
        ("dtw_mem_size", ctypes.c_size_t),
    )


_DEFAULTS = (True, True, 0, False, 0, -1, 0, None, 128 * 1024 * 1024)
"""Of the release: a layout that is another does not give them."""
_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_SILENT = _Log(lambda level, text, data: None)
_POINTER, _INT, _LONG, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "whisper_log_set": (None, (_Log, _POINTER)),
    "ggml_log_set": (None, (_Log, _POINTER)),
    "whisper_context_default_params_by_ref": (ctypes.POINTER(_Parameters), ()),
    "whisper_free_context_params": (None, (ctypes.POINTER(_Parameters),)),
    "whisper_init_from_file_with_params": (_POINTER, (ctypes.c_char_p, _Parameters)),
    "whisper_free": (None, (_POINTER,)),
    "whisper_pcm_to_mel": (_INT, (_POINTER, _POINTER, _INT, _INT)),
    "whisper_set_mel": (_INT, (_POINTER, _POINTER, _INT, _INT)),
    "whisper_encode": (_INT, (_POINTER, _INT, _INT)),
    "whisper_decode": (_INT, (_POINTER, ctypes.POINTER(_INT), _INT, _INT, _INT)),
    "whisper_get_logits": (ctypes.POINTER(ctypes.c_float), (_POINTER,)),
    "whisper_model_n_vocab": (_INT, (_POINTER,)),
    "whisper_model_n_audio_ctx": (_INT, (_POINTER,)),
    "whisper_model_n_text_ctx": (_INT, (_POINTER,)),
    "whisper_model_n_mels": (_INT, (_POINTER,)),
    "ggml_row_size": (_SIZE, (_INT, _LONG)),
    "ggml_quantize_chunk": (_SIZE, (_INT, _POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER)),
}


@cache
def library() -> Any:
    """The loaded library, silenced; the functions of ggml are found through it.

    Raises:
        UnsupportedError: it is of another release, or not there.
    """
    found = next((file for file in metadata.files(PACKAGE) or () if file.name == "libwhisper.so"), None)
    if found is None:
        raise UnsupportedError(f"{PACKAGE} brings no libwhisper.so on this machine")
    loaded = ctypes.CDLL(str(found.locate()))
    loaded.whisper_version.restype = ctypes.c_char_p
    release = loaded.whisper_version().decode()
    if release != RELEASE:
        raise _another(release)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    loaded.whisper_log_set(_SILENT, None)
    loaded.ggml_log_set(_SILENT, None)
    defaults = _default_parameters(loaded)
    if tuple(getattr(defaults, name) for name, _ in _Parameters._fields_) != _DEFAULTS:
        raise _another(release)
    return loaded


def _another(release: str) -> UnsupportedError:
    return UnsupportedError(
        f"{PACKAGE} {metadata.version(PACKAGE)} brings whisper.cpp {release}, whose parameters are not known to be "
        f"those of {RELEASE}: install {PACKAGE}==1.5.1"
    )


def _default_parameters(loaded: Any) -> _Parameters:
    given = loaded.whisper_context_default_params_by_ref()
    parameters = _Parameters.from_buffer_copy(given.contents)
    loaded.whisper_free_context_params(given)
    return parameters


def row_bytes(kind: TensorType, columns: int) -> int:
    """Of a row of so many weights."""
    return int(library().ggml_row_size(kind.number, columns))


def quantized(kind: TensorType, weight: Floats, importance: Floats | None = None) -> bytes:
    """A matrix as ggml stores it.

    Args:
        kind: its type.
        weight: (rows, columns).
        importance: (columns,), of how much weight the error in each column has; `None` for the same.
    """
    if kind is F16:
        return weight.astype(np.float16).tobytes()
    rows, columns = weight.shape
    _check_row(kind, columns)
    weight = np.ascontiguousarray(weight, np.float32)
    if importance is not None:
        importance = np.ascontiguousarray(np.broadcast_to(importance, (columns,)), np.float32)
    made = np.empty(rows * row_bytes(kind, columns), np.uint8)
    pointer = None if importance is None else importance.ctypes.data
    written = library().ggml_quantize_chunk(
        kind.number, weight.ctypes.data, made.ctypes.data, 0, rows, columns, pointer
    )
    if written != made.nbytes:
        raise ModelError(f"ggml wrote {written} bytes of {kind.name} where {made.nbytes} were expected")
    return made.tobytes()


def dequantized(kind: TensorType, stored: bytes, shape: tuple[int, int]) -> Floats:
    """The weights, `shape`, that ggml computes with."""
    if kind is F16:
        return np.frombuffer(stored, np.float16).astype(np.float32).reshape(shape)
    _check_row(kind, shape[1])
    if len(stored) != shape[0] * row_bytes(kind, shape[1]):
        raise ModelError(f"{len(stored)} bytes are no {kind.name} of the shape {shape}")
    weights = np.empty(shape, np.float32)
    function = getattr(library(), f"dequantize_row_{kind.name}")
    function.restype, function.argtypes = None, (ctypes.c_char_p, _POINTER, _LONG)
    function(stored, weights.ctypes.data, weights.size)
    return weights


def _check_row(kind: TensorType, columns: int) -> None:
    if columns % kind.row:
        raise ModelError(f"{kind.name} has rows of multiples of {kind.row} weights, not of {columns}")


class Context:
    """A model in memory, with the state of one utterance.

    Args:
        path: of its file.

    Raises:
        ModelError: whisper.cpp does not take the file.
    """

    def __init__(self, path: Path) -> None:
        self._library = library()
        parameters = _default_parameters(self._library)
        # With it, attention reaches padding wherever the audio context is no multiple of 256, as Whisper's 1500 is not.
        parameters.flash_attn = False
        parameters.use_gpu = False
        self._context = self._library.whisper_init_from_file_with_params(str(path).encode(), parameters)
        if not self._context:
            raise ModelError(f"{path}: whisper.cpp cannot load it")
        weakref.finalize(self, self._library.whisper_free, self._context)
        self.vocabulary, self.positions, self.mels, self._audio_positions = (
            int(getattr(self._library, f"whisper_model_n_{name}")(self._context))
            for name in ("vocab", "text_ctx", "mels", "audio_ctx")
        )
        self._past = -1

    def encode(self, features: Floats, threads: int) -> None:
        """Encode a window of features, (mels, frames): what is decoded from here on is this."""
        self._past = -1
        features = np.ascontiguousarray(features, np.float32)
        if features.shape != (self.mels, 2 * self._audio_positions):
            raise ModelError(
                f"the model takes features of {(self.mels, 2 * self._audio_positions)}, not {features.shape}"
            )
        self._run("whisper_set_mel", features.ctypes.data, features.shape[1], self.mels)
        self._encode(threads)

    def encode_speech(self, samples: Floats, threads: int) -> None:
        """`encode` of the features that whisper.cpp itself computes of samples, (samples,), at 16 kHz."""
        self._past = -1
        samples = np.ascontiguousarray(samples, np.float32)
        if samples.ndim != 1 or len(samples) <= _REFLECTED:
            raise ModelError(f"whisper.cpp takes more than {_REFLECTED} samples, not an array of {samples.shape}")
        self._run("whisper_pcm_to_mel", samples.ctypes.data, len(samples), threads)
        self._encode(threads)

    def _encode(self, threads: int) -> None:
        self._run("whisper_encode", 0, threads)
        self._past = 0

    def decode(self, tokens: Sequence[int], threads: int) -> Floats:
        """The logits, (vocabulary,), after more tokens of the text."""
        if self._past < 0:
            raise ModelError("nothing is encoded yet")
        strangers = [token for token in tokens if not 0 <= token < self.vocabulary]
        if strangers or not tokens or self._past + len(tokens) > self.positions:
            raise ModelError(
                f"whisper.cpp was given {len(tokens)} tokens at position {self._past} of {self.positions}, among them "
                f"{strangers} outside of the vocabulary"
            )
        given = (_INT * len(tokens))(*tokens)
        self._run("whisper_decode", given, len(tokens), self._past, threads)
        self._past += len(tokens)
        rows = np.ctypeslib.as_array(self._library.whisper_get_logits(self._context), (len(tokens), self.vocabulary))
        return rows[-1].copy()

    def _run(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(self._context, *arguments)
        if status != 0:
            raise ModelError(f"whisper.cpp's {name} failed with the status {status}")
