"""Plain casts of the whole model to fp16 or bf16: half the size for nothing, the rival of every 8-bit row."""

from backends.core.codes import NumberFormat
from backends.core.floats import FloatBackend

BACKEND = FloatBackend("cast", frozenset({NumberFormat.FP16, NumberFormat.BF16}))
