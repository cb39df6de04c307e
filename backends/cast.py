"""Plain casts of the whole model to fp16 or bf16: half the size for nothing, the rival of every 8-bit row."""

from backends._float import FloatBackend
from backends._spec import NumberFormat

BACKEND = FloatBackend("cast", frozenset({NumberFormat.FP16, NumberFormat.BF16}))
