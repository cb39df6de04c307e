"""Block outputs of the quantized model compared with full precision's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from backends import CalibrationInput
from harness.analysis._answers import recorded, run

Row = dict[str, Any]


def block_rows(full: Any, quantized: Any, batches: Sequence[CalibrationInput]) -> list[Row]:
    """One row for every block of encoder and decoder, in their order.

    `cosine` is the mean over positions of the cosine between the two outputs, `relative_error` the norm of
    their difference over the norm of full precision's.
    """
    names = blocks_of(full)
    cosines, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    errors, powers = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for batch in batches:
        expected, found = _outputs(full, names, batch), _outputs(quantized, names, batch)
        for name in names:
            one, other = (batch.counted(outputs[name]).flatten(0, -2).float() for outputs in (expected, found))
            cosines[name] += float(nn.functional.cosine_similarity(one, other, dim=-1).sum())
            counts[name] += len(one)
            errors[name] += float((one - other).square().sum())
            powers[name] += float(one.square().sum())
    return [
        {
            "name": name,
            "cosine": cosines[name] / counts[name],
            "relative_error": (errors[name] / powers[name]) ** 0.5,
        }
        for name in names
    ]


def blocks_of(model: Any) -> list[str]:
    """Names of the entries of the outermost module lists that have linear layers in them."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and not inside:
            found += [f"{name}.{i}" for i, entry in enumerate(module) if _has_linear(entry)]
    return found


def _has_linear(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.Linear) for inner in module.modules())


def _outputs(model: Any, names: Sequence[str], batch: CalibrationInput) -> dict[str, Tensor]:
    with recorded(model, names) as seen:
        run(model, batch)
    return {name: output for name, (_, output) in seen.items()}
