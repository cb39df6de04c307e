"""The importance matrix: of every column of a weight, the mean square of the input that multiplies it.

That is the diagonal of the second moment of a layer's inputs, by which ggml's quantizers weigh the error of a weight
(`imatrix` of llama.cpp). Padding is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration
from backends.core.errors import ModelError
from backends.core.layerwise import calibrate
from backends.core.observing import counted
from backends.core.selection import Candidate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from backends.ggml._library import Floats


def importance(model: nn.Module, modules: Sequence[Candidate], calibration: Calibration | None) -> dict[str, Floats]:
    """Mean squares of inputs, (columns,), by module.

    Args:
        model: float; shown the calibration inputs.
        modules: linear layers, and the tie, whose inputs are the head's.
        calibration: inputs.

    Raises:
        ModelError: there are no inputs, or a module was given none or only zeros.
    """
    import torch

    sums: dict[str, tuple[Tensor, int]] = {}

    def note(name: str, seen: Tensor) -> None:
        vectors = counted(seen).flatten(0, -2).double()
        before, count = sums.get(name, (torch.zeros(vectors.shape[1], dtype=torch.float64), 0))
        sums[name] = before + vectors.square().sum(0), count + len(vectors)

    def hook(name: str) -> Any:
        return lambda module, inputs: note(name, inputs[0])

    hooks = [candidate.module.register_forward_pre_hook(hook(candidate.name)) for candidate in modules]
    try:
        calibrate(model, calibration)
    finally:
        for one in hooks:
            one.remove()
    silent = [c.name for c in modules if c.name not in sums or not sums[c.name][0].any()]
    if silent:
        raise ModelError(f"calibration did not reach {', '.join(silent)}: calibrate on more")
    return {name: (total / count).float().numpy() for name, (total, count) in sums.items()}
