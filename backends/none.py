"""The full-precision baseline as a backend, so that it is a cell like every other."""

from backends.core.codes import NumberFormat
from backends.core.floats import FloatBackend

BACKEND = FloatBackend("none", frozenset({NumberFormat.FP32}))
