"""Layers with inputs as they are in speech models: correlated, with some channels much stronger than others."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.core.codes import (
    Granularity,
    NumberFormat,
    PerChannel,
    WeightCode,
)
from backends.ptq._method import Layer, Request
from backends.ptq._options import PtqOptions
from backends.ptq._statistics import Accumulator


def inputs_of(columns: int, seed: int, tokens: int = 800) -> Tensor:
    """(tokens, columns), a few directions and a few channels stronger than the rest."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return mixed / columns**0.5 * torch.exp(torch.randn(columns, generator=generator))


def layer_of(weight: Tensor, inputs: Tensor, exact: Tensor | None = None) -> Layer:
    """A layer that has seen `inputs` where full precision has `exact`."""
    accumulator = Accumulator(weight.shape[1], exact is not None)
    accumulator.add(inputs, exact)
    return Layer("layer", weight, accumulator.statistics())


def problem(rows: int = 48, columns: int = 64, seed: int = 0) -> Layer:
    """A random layer."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed + 1000)) * 0.05
    return layer_of(weight, inputs_of(columns, seed))


PER_CHANNEL = PerChannel()


def request(
    bits: int = 3,
    granularity: Granularity = PER_CHANNEL,
    symmetric: bool = False,
    method: object = None,
    **options: object,
) -> Request:
    """A request for weights alone."""
    code = WeightCode(bits, NumberFormat.INT, granularity, symmetric)
    return Request(code, None, PtqOptions(**options), method)  # type: ignore[arg-type]


def loss(layer: Layer, weight: Tensor) -> float:
    """Mean squared output error of another weight in the layer's place."""
    return layer.known.loss(weight - layer.weight)
