"""Scales in codes of their own: of many small groups, scales in 16 bits would weigh as much as the weights' codes.

Source: Dettmers et al. 2023, "SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight
Compression", arXiv 2306.03078, section 4.2 ("bilevel quantization"): the scales of sixteen consecutive rows
in the same columns share a minimum and a step. The paper does the same to zero points, which are real numbers
there; here they are whole numbers of as many bits as a weight, and gain nothing by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from backends.ptq._packing import pack, packed_bits, unpack

ROWS = 16
"""So many rows share the second-level numbers (the paper's beta_2)."""


@dataclass(frozen=True)
class SecondLevel:
    """The scales of a matrix, s = low + code * step.

    Attributes:
        bits: of a code.
        codes: (rows, groups) of whole numbers in [0, 2^bits).
        low, step: (rows / 16 rounded up, groups) of float16.
    """

    bits: int
    codes: Tensor
    low: Tensor
    step: Tensor

    @property
    def values(self) -> Tensor:
        """The scales, (rows, groups) of float32."""
        rows = len(self.codes)
        low, step = (part.float().repeat_interleave(ROWS, 0)[:rows] for part in (self.low, self.step))
        return low + self.codes.float() * step

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        return {"scale_codes": pack(self.codes, self.bits), "scale_low": self.low, "scale_step": self.step}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], rows: int) -> SecondLevel:
        """The inverse of `tensors`."""
        groups = tensors["scale_low"].shape[1]
        bits = packed_bits(tensors["scale_codes"], rows * groups)
        codes = unpack(tensors["scale_codes"], bits, rows * groups).reshape(rows, groups)
        return cls(bits, codes, tensors["scale_low"], tensors["scale_step"])


def second_level(scale: Tensor, bits: int) -> SecondLevel:
    """The nearest codes of positive scales, (rows, groups)."""
    rows, groups = scale.shape
    filled = torch.cat([scale.float(), scale[-1:].float().expand(-rows % ROWS, groups)])
    blocks = filled.reshape(-1, ROWS, groups)
    low = blocks.amin(1).to(torch.float16)
    step = ((blocks.amax(1) - low.float()) / (2**bits - 1)).clamp(min=0).to(torch.float16)
    codes = ((blocks - low.float()[:, None]) / step.float().clamp(min=1e-8)[:, None]).round().clamp(0, 2**bits - 1)
    return SecondLevel(bits, codes.reshape(-1, groups)[:rows], low, step)
