"""One layer, or one block, from request to packed module; what options add to any method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from backends.core.base import Calibration
from backends.ptq._block import ALONE, alone
from backends.ptq._engine import Engine
from backends.ptq._linear import QuantizedLinear, Shape, Solution, Transform
from backends.ptq._method import Block, Layer, Needs, Request


def quantize_layers(model: nn.Module, requests: Mapping[str, Request], calibration: Calibration | None) -> None:
    """Replace linear layers of `model` in place; deterministic.

    Args:
        model: consumed.
        requests: what is asked of every layer, by name. Those of a block that a method takes together are the same.
        calibration: may be `None` where nothing needs it.

    Raises:
        ModelError: calibration inputs are needed and there are none, or they do not reach a layer.
    """
    needs = max(needs_of(request, calibration) for request in requests.values())

    def of_layer(layer: Layer) -> nn.Module:
        bias: Any = model.get_submodule(layer.name).bias
        request = requests[layer.name]
        if request.method.needs is Needs.BLOCK:
            return _module(layer, request.method.solve_block(alone(layer), request)[ALONE], request, bias)
        return quantized(layer, request, bias)

    def of_block(block: Block) -> Mapping[str, nn.Module]:
        request = requests[next(iter(block.layers.values())).name]
        if request.method.needs is not Needs.BLOCK:
            return {name: of_layer(layer) for name, layer in block.layers.items()}
        solved = request.method.solve_block(block, request)
        return {
            name: _module(layer, solved[name], request, block.module.get_submodule(name).bias)  # type: ignore[arg-type]
            for name, layer in block.layers.items()
        }

    Engine(model, list(requests), needs, of_layer, of_block if needs is Needs.BLOCK else None).run(calibration)


def needs_of(request: Request, calibration: Calibration | None) -> Needs:
    """What the method needs, and the inputs' statistics where options do or are better with them."""
    options = request.options
    wanted = options.smooth > 0 or (calibration is not None and (options.clip or options.low_rank > 0))
    needs: Needs = max(request.method.needs, Needs.STATISTICS if wanted else Needs.NOTHING)
    return needs


def quantized(layer: Layer, request: Request, bias: Tensor | None) -> QuantizedLinear:
    """A layer by a method that takes one after another."""
    first = before(layer, request)
    changed = transformed(layer, first)
    second = request.method.transform(changed, request)
    solution = request.method.solve(transformed(changed, second), request)
    return _module(layer, (joined(first, second), solution), request, bias)


def before(layer: Layer, request: Request) -> Transform:
    """What the options do before any method."""
    from backends.ptq.smoothquant import smoothing

    options = request.options
    return Transform(smoothing(layer, options.smooth) if options.smooth > 0 else None, options.rotate)


def transformed(layer: Layer, transform: Transform) -> Layer:
    """The layer with T x as its input."""
    if transform == Transform():
        return layer
    statistics = None if layer.statistics is None else layer.statistics.transformed(transform)
    return replace(layer, weight=transform.of_weight(layer.weight), statistics=statistics)


def joined(first: Transform, second: Transform) -> Transform:
    """`first`, then `second`, as one; a scaling cannot follow a rotation (`capability` refuses that)."""
    if first.scale is None or second.scale is None:
        scale = second.scale if first.scale is None else first.scale
    else:
        scale = first.scale * second.scale
    return Transform(scale, first.rotated or second.rotated)


def _module(layer: Layer, solved: tuple[Transform, Solution], request: Request, bias: Tensor | None) -> QuantizedLinear:
    from backends.ptq._low_rank import compensated

    transform, solution = solved
    if request.options.low_rank:
        solution = compensated(solution, transformed(layer, transform), request.options.low_rank)
    rows, columns = layer.weight.shape
    return QuantizedLinear.of(solution, transform, Shape(rows, columns, request.code, request.activations), bias)
