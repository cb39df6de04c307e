"""Every layer by itself: its weights and inputs before and after the method's transformation, and its own error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backends import CalibrationInput
from harness.analysis._answers import recorded, run
from harness.analysis._moments import Moments

Row = dict[str, Any]


def layer_rows(full: Any, quantized: Any, names: Sequence[str], batches: Sequence[CalibrationInput]) -> list[Row]:
    """One row for every linear layer of `names`, in their order.

    Kurtosis is 3 for a normal distribution. `outlier_channels` are those of the input, most first. Columns that
    begin with `transformed_` are what the method rounds: the weight and input after its scaling or rotation
    (the same as before where it does neither). `output_range_ratio` is what one scale for the output must span, in
    standard deviations; it and the other columns of the output are full precision's. `output_error` is
    |q(x) - W x| / |W x| for full precision's x.
    """
    watched = {name: _Watched(full.get_submodule(name), quantized.get_submodule(name)) for name in names}
    for batch in batches:
        with recorded(full, watched) as seen:
            run(full, batch)
        with torch.no_grad():
            for name, (inputs, output) in seen.items():
                watched[name].add(inputs, output, batch)
    return [{"name": name, **layer.row()} for name, layer in watched.items()]


class _Watched:
    """What is gathered of one layer."""

    def __init__(self, original: Any, replacement: nn.Module) -> None:
        self._weight: Tensor = original.weight.detach().float()
        self._replacement = replacement
        self._transform = getattr(replacement, "transform", None)
        rows, columns = self._weight.shape
        self._inputs, self._transformed, self._outputs = Moments(columns), Moments(columns), Moments(rows)
        self._error = self._power = 0.0

    def add(self, inputs: Tensor, output: Tensor, batch: CalibrationInput) -> None:
        """Take in one batch as full precision has it."""
        own = self._replacement(inputs)
        expected = batch.counted(output.float())
        self._error += float((batch.counted(own.float()) - expected).square().sum())
        self._power += float(expected.square().sum())
        self._outputs.add(expected)
        counted = batch.counted(inputs)
        self._inputs.add(counted)
        self._transformed.add(counted if self._transform is None else self._transform.of_input(counted))

    def row(self) -> Row:
        """The layer's row, without its name."""
        weight, rounded = Moments(self._weight.shape[1]), Moments(self._weight.shape[1])
        weight.add(self._weight)
        rounded.add(self._weight if self._transform is None else self._transform.of_weight(self._weight))
        return {
            "weight_kurtosis": weight.kurtosis,
            "weight_largest": weight.largest,
            "input_kurtosis": self._inputs.kurtosis,
            "input_largest": self._inputs.largest,
            "input_peak_ratio": self._inputs.peak_ratio,
            "outlier_channels": self._inputs.outliers,
            "transformed_weight_kurtosis": rounded.kurtosis,
            "transformed_weight_largest": rounded.largest,
            "transformed_input_kurtosis": self._transformed.kurtosis,
            "transformed_input_largest": self._transformed.largest,
            "transformed_input_peak_ratio": self._transformed.peak_ratio,
            "output_kurtosis": self._outputs.kurtosis,
            "output_largest": self._outputs.largest,
            "output_peak_ratio": self._outputs.peak_ratio,
            "output_range_ratio": self._outputs.range_ratio,
            "output_error": (self._error / self._power) ** 0.5 if self._power else float("nan"),
        }
