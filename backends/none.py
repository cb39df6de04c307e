"""The full-precision baseline as a backend, so that it is a cell like every other."""

from backends._float import FloatBackend
from backends._spec import NumberFormat

BACKEND = FloatBackend("none", frozenset({NumberFormat.FP32}))
