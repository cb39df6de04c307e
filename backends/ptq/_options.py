"""The options of all methods, free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from backends.core.serial import LATER


@dataclass(frozen=True)
class PtqOptions:
    """What the methods take beside the spec. An option that a method does not use must keep its default.

    Attributes:
        clip: search the range of every group of weights for the least error, instead of minimum and maximum.
        smooth: exponent alpha of SmoothQuant's scaling before any method; 0 for none.
        rotate: a Hadamard rotation of every layer's input before any method.
        low_rank: rank of a correction of the quantization error; 0 for none.
        damping: share of the mean diagonal that is added to a Hessian's.
        act_order: quantize the columns with the most powerful inputs first.
        block_size: columns that are updated together.
        search_steps: points of AWQ's grid for its exponent.
        epochs: of the methods that learn, over the calibration batches.
        learning_rate: of the same.
        outlier_threshold: SpQR: a weight without which its group's error falls by more than this share of the
            layer's mean weighted variance is an outlier.
        scale_bits: SpQR: bits of the second-level codes of scales; 16 stores scales as they are.
        target_bits: mean stored bits of a weight that the bits of the layers are allotted to; 0 where they are not.
        target_size_mb: the same as a size of the whole model, in 10^6 bytes; 0 where there is none.
        allot_by: what such a budget spares: the `likelihood` of the model's answers, or for layers of the encoder its
            `states`, weighted by the decoder's attention to them.
    """

    clip: bool = False
    smooth: float = 0.0
    rotate: bool = False
    low_rank: int = 0
    damping: float = 0.01
    act_order: bool = True
    block_size: int = 128
    search_steps: int = 20
    epochs: int = 20
    learning_rate: float = 0.01
    outlier_threshold: float = 0.2
    scale_bits: int = 3
    target_bits: float = 0.0
    target_size_mb: float = 0.0
    allot_by: str = field(default="likelihood", metadata=LATER)
