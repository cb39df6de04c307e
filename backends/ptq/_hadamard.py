"""Orthonormal Hadamard matrices of the widths that speech models have, as Kronecker products.

A Hadamard matrix of order n has entries +1 and -1 and orthogonal rows. Orders 2^k are Sylvester's
doubling; order q + 1 with a prime q = 3 modulo 4 is Paley's first construction (Paley 1933, "On
orthogonal matrices"); products of both give 192 = 12 x 16, 288 = 72 x 4, 384, 416 = 104 x 4, 768, ...
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def factors(width: int) -> tuple[int, int] | None:
    """`width` as order of a Paley matrix (1 for none) times a power of two; `None` if that is not possible."""
    power = width & -width
    odd = width // power
    for exponent in range(power.bit_length()):
        order = odd << exponent
        if order in (1, 2) or (order % 4 == 0 and _is_prime(order - 1)):
            return (1, width) if order < 4 else (order, width // order)
    return None


def rotate(values: Tensor) -> Tensor:
    """Multiply the last dimension of `values` by the symmetric part's transpose: x H^T / sqrt(width).

    The shape stays; H is orthonormal, so `unrotated` of the result is the argument, and inner products
    are kept. Computed as a product with the Paley part and log2 doublings, in the dtype of `values`.

    Raises:
        ValueError: there is no matrix for this width.
    """
    width = values.shape[-1]
    found = factors(width)
    if found is None:
        raise ValueError(f"no Hadamard matrix of order {width} is known here")
    order, power = found
    parts = values.reshape(-1, order, power)
    if order > 1:
        parts = torch.einsum("ij,njk->nik", paley(order).to(values), parts)
    parts = parts.reshape(-1, power)
    step = 1
    while step < power:
        parts = parts.reshape(-1, power // (2 * step), 2, step)
        parts = torch.stack([parts[:, :, 0] + parts[:, :, 1], parts[:, :, 0] - parts[:, :, 1]], dim=2)
        step *= 2
    return parts.reshape(values.shape) / width**0.5


@cache
def paley(order: int) -> Tensor:
    """Paley's Hadamard matrix of an order q + 1, q prime and 3 modulo 4, (order, order) of +1 and -1."""
    prime = order - 1
    squares = {number * number % prime for number in range(1, prime)}
    residue = torch.tensor([0.0] + [1.0 if number in squares else -1.0 for number in range(1, prime)])
    index = (torch.arange(prime)[:, None] - torch.arange(prime)[None, :]) % prime
    skew = torch.zeros(order, order)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = residue[index]
    return skew + torch.eye(order)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
