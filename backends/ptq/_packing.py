"""Codes of 1 to 8 bits without a gap between them: eight codes of b bits in b bytes."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take: the last eight are filled up with zeros."""
    return -(-count // 8) * bits


def packed_bits(data: Tensor, count: int) -> int:
    """The bits of a code, from what `pack` made of `count` codes."""
    return data.numel() // packed_bytes(count, 1)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack whole numbers in [0, 2^bits) of any shape into one row of bytes.

    >>> pack(torch.tensor([1, 2, 3, 4, 5, 6, 7, 0]), 3)
    tensor([209,  88,  31], dtype=torch.uint8)
    """
    flat = codes.reshape(-1).to(torch.int64)
    flat = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).reshape(-1, 8)
    words = (flat << _shifts(bits, 8, codes)).sum(1)
    return (words[:, None] >> _shifts(8, bits, codes)).bitwise_and(255).to(torch.uint8).reshape(-1)


def unpack(data: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` codes of what `pack` made, (count,) of uint8.

    >>> unpack(pack(torch.tensor([5, 0, 7]), 3), 3, 3)
    tensor([5, 0, 7], dtype=torch.uint8)
    """
    words = data.reshape(-1, bits)
    codes = torch.empty(len(words), 8, dtype=torch.uint8, device=data.device)
    for place in range(8):
        byte, shift = divmod(place * bits, 8)
        code = words[:, byte] >> shift
        if shift + bits > 8:
            code |= words[:, byte + 1] << (8 - shift)
        codes[:, place] = code & (2**bits - 1)
    return codes.reshape(-1)[:count]


def _shifts(step: int, count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device) * step
