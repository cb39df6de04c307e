"""A low-rank correction of the quantization error, best for the inputs that calibration has seen.

Source: Zhang et al. 2024, "LQER: Low-Rank Quantization Error Reconstruction for LLMs", arXiv 2402.02446:
the error E = W - W' is approximated at rank k by a singular value decomposition (eq. 8), scaled by the inputs'
magnitudes (L2QER, eq. 10). With the root S of the second moments in place of magnitudes, S S^T = E[x x^T], the
truncation of E S is the least output error that rank k allows (Eckart & Young 1936).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from backends.ptq._linear import LowRank, Solution
from backends.ptq._method import Layer

_DAMPING = 1e-4


def compensated(solution: Solution, layer: Layer, rank: int) -> Solution:
    """The solution with a correction of the given rank; the layer's weight is the transformed one."""
    error = layer.weight - solution.weight
    root = _root(layer)
    left, sizes, right = torch.linalg.svd(error @ root, full_matrices=False)
    up = left[:, :rank] * sizes[:rank]
    down = torch.linalg.solve(root.T, right[:rank].T).T
    balance = sizes[:rank].sqrt().clamp(min=1e-12)
    return replace(
        solution, low_rank=LowRank((up / balance).to(torch.float16), (down * balance[:, None]).to(torch.float16))
    )


def _root(layer: Layer) -> Tensor:
    """The symmetric root of the second moments; the identity where there are none."""
    columns = layer.weight.shape[1]
    if layer.statistics is None:
        return torch.eye(columns, device=layer.weight.device)
    sizes, vectors = torch.linalg.eigh(layer.statistics.second.double())
    sizes = sizes.clamp(min=0) + _DAMPING * sizes.mean()
    return ((vectors * sizes.sqrt()) @ vectors.T).float()
