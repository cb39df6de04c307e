"""The full-precision baseline as a backend, so that it is a cell like every other."""

from backends.core.floats import FloatBackend
from backends.core.spec import NumberFormat

BACKEND = FloatBackend("none", frozenset({NumberFormat.FP32}))
