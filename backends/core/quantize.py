"""`quantize`: a request is checked, its defaults are filled in, and the backend does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backends.core.base import (
    Backend,
    Calibration,
    Capability,
    Supported,
    Unsupported,
    groups_refused,
    missing_package,
    outputs_refused,
    package_versions,
    selection_refused,
)
from backends.core.checkpoint import Quantized
from backends.core.codes import Activations, Granularity, parse_granularity
from backends.core.errors import ModelError, SpecError, UnsupportedError
from backends.core.recipes import plain, plain_specs, resolved_recipe
from backends.core.registry import get
from backends.core.serial import options_from_dict
from backends.core.spec import (
    ENCODER_AND_DECODER,
    LINEAR,
    QuantSpec,
    Rest,
    Rule,
    Scheme,
)

if TYPE_CHECKING:
    from torch import nn


def quantize(
    model: nn.Module,
    scheme: str,
    granularity: str | Granularity,
    bits: int | None,
    *,
    backend: str,
    method: str | None = None,
    format: str = "int",
    symmetric: bool | None = None,
    activations: Activations | None = None,
    modules: Iterable[str] = LINEAR,
    parts: Iterable[str] = ENCODER_AND_DECODER,
    outputs: bool | None = None,
    rest: str = Rest.FP32,
    recipe: Iterable[Rule | Mapping[str, Any]] = (),
    calibration: Calibration | None = None,
    options: Mapping[str, Any] | None = None,
) -> Quantized:
    """Quantize a model with one of the libraries.

    Args:
        model: any `nn.Module` with linear layers; consumed: it is changed in place, set to evaluation
            mode, and not to be used after an error.
        scheme: `weight_only`, `dynamic`, `static`, or `none` for casts.
        granularity: of the weights: `per_tensor`, `per_channel` or `per_group:SIZE`.
        bits: of a weight code.
        backend: one of `available()`.
        method: how codes are chosen; the library's default otherwise.
        format: of a weight code: `int`, `fp8_e4m3`, `nf4`, `fp4`, `nvfp4`, `mxfp4`, `mxfp8`, `fp16`, `bf16`, `fp32`,
            or ggml's `iq4_nl` and `q6_k` to `q2_k`.
        symmetric: of the weight code; the library's default otherwise.
        activations: how activations are coded; the library's default for the scheme otherwise.
        modules: which of `linear`, `head`, `embedding`, `conv`, or `tied` for head and embedding as one tensor. The
            default leaves a tied head as it is.
        parts: which of `encoder`, `decoder`.
        outputs: whether layers' outputs are rounded to a code too, which the static scheme can; the library's default
            otherwise.
        rest: as what everything is stored that is not quantized: `fp32` (as it was loaded), `fp16`, `bf16`, or
            `published` (the narrowest that holds every number of it); it is computed in the model's dtype.
        recipe: rules, the first of which that selects a module decides it, such as
            `[{"modules": ["tied"], "bits": 6}, {"parts": ["decoder"], "bits": 4}]`; see `backends.Rule`.
        calibration: inputs for the static scheme and for methods that look at inputs, each a mapping of
            keyword arguments of the model, one tensor, or a `CalibrationInput` that says what is padding.
        options: what only this library knows, by name.

    Returns:
        The quantized model with its report. Deterministic for the same library version and device.

    Raises:
        SpecError: the request contradicts itself or names something unknown.
        UnsupportedError: the library cannot do it; the message says why.
        ModelError: the model has modules that it cannot be done with, or weights that are not finite; the message
            names them.
    """
    chosen = QuantSpec(
        Scheme(scheme) if scheme in list(Scheme) else scheme,  # type: ignore[arg-type]
        parse_granularity(granularity),
        bits,
        format,  # type: ignore[arg-type]
        symmetric,
        activations,
        method,
        frozenset((modules,) if isinstance(modules, str) else modules),  # type: ignore[arg-type]
        frozenset((parts,) if isinstance(parts, str) else parts),  # type: ignore[arg-type]
        outputs,
        rest,  # type: ignore[arg-type]
        tuple(recipe),  # type: ignore[arg-type]
    )
    return quantize_spec(model, chosen, backend, options, calibration)


def quantize_spec(
    model: nn.Module,
    spec: QuantSpec,
    backend: str,
    options: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> Quantized:
    """`quantize` for those who hold a `QuantSpec` already; same behaviour and errors."""
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}, not a torch.nn.Module: load the checkpoint first")
    adapter = get(backend)
    resolved, filled = resolve(spec, backend, options)
    answer = capability(resolved, backend, options, device_of(model))
    if isinstance(answer, Unsupported):
        raise UnsupportedError(f"{backend}: {answer.reason}")
    _check_weights(model)
    return adapter.quantize(model, resolved, filled, calibration)


def _check_weights(model: nn.Module) -> None:
    """Refuse weights that are not finite, but for those that a library has in a form of its own.

    It looks at their bounds: `isfinite` of the whole makes copies, which would count as the peak of quantizing.
    """
    import torch

    for name, weight in model.named_parameters():
        plain = type(weight.data) is torch.Tensor and weight.numel()
        if plain and not all(bound.isfinite() for bound in weight.data.aminmax()):
            raise ModelError(f"{name} holds values that are infinite or no numbers: the checkpoint is damaged")


def resolve(spec: QuantSpec, backend: str, options: Mapping[str, Any] | None = None) -> tuple[QuantSpec, Any]:
    """Return `spec` and the backend's options with every default filled in; idempotent, without torch.

    Raises:
        SpecError: an unknown backend or option.
    """
    adapter = get(backend)
    try:
        filled = options_from_dict(adapter.options, dict(options or {}))
    except SpecError as error:
        raise SpecError(f"{backend}: {error}") from None

    def of_plain(asked: QuantSpec) -> QuantSpec:
        found = adapter.resolve(asked, filled)
        return replace(found, outputs=bool(found.outputs))

    resolved = replace(of_plain(plain(spec)), rest=spec.rest)
    return replace(resolved, recipe=resolved_recipe(spec, resolved, of_plain)), filled


def capability(
    spec: QuantSpec, backend: str, options: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Capability:
    """Whether `backend` can do `spec` on `device` (`cpu` or `cuda`), and if not, why; without importing torch.

    It can do a recipe if it can do what every rule asks.

    Raises:
        SpecError: an unknown backend or option.
    """
    adapter = get(backend)
    resolved, filled = resolve(spec, backend, options)
    refused = missing_package(adapter) or selection_refused(adapter, resolved)
    if refused is not None:
        return refused
    answers = [_of_plain(adapter, own, filled, device) for own in plain_specs(resolved)]
    for answer in answers:
        if isinstance(answer, Unsupported):
            return answer
    reason = adapter.recipe_refused(resolved) if resolved.recipe else None  # type: ignore[attr-defined]
    if reason is not None:
        return Unsupported(reason)
    able = [answer for answer in answers if isinstance(answer, Supported)]
    notes = dict.fromkeys(answer.note for answer in able if answer.note)
    return replace(able[0], simulated=any(answer.simulated for answer in able), note="; ".join(notes))


def _of_plain(adapter: Backend, spec: QuantSpec, options: Any, device: str) -> Capability:
    """The answer to a plain spec; where the method is in the way, whether the adapter of methods has it."""
    answer = (
        outputs_refused(adapter, spec) or groups_refused(adapter, spec) or adapter.capability(spec, options, device)
    )
    usual = adapter.resolve(replace(spec, method=None), options).method
    if isinstance(answer, Unsupported) and spec.method not in (None, usual) and adapter.name != _OF_METHODS:
        elsewhere = get(_OF_METHODS)
        possible = elsewhere.capability(elsewhere.resolve(spec, elsewhere.options()), elsewhere.options(), device)
        if isinstance(possible, Supported):
            return Unsupported(f'{answer.reason}; backend = "{_OF_METHODS}" has the method {spec.method}')
    return answer


_OF_METHODS = "ptq"
"""The adapter whose methods are this project's own."""


def calibrates(spec: QuantSpec, backend: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether `quantize` needs calibration inputs for it; without importing torch.

    Raises:
        SpecError: an unknown backend or option.
    """
    resolved, filled = resolve(spec, backend, options)
    return any(get(backend).calibrates(own, filled) for own in plain_specs(resolved))


def row_independent(spec: QuantSpec, backend: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether an input row's result depends on nothing else in the call, up to float rounding; without torch.

    Raises:
        SpecError: an unknown backend or option.
    """
    resolved, filled = resolve(spec, backend, options)
    return all(get(backend).row_independent(own, filled) for own in plain_specs(resolved))


def versions(backend: str) -> dict[str, str]:
    """Versions of the distributions that decide a backend's results, by name; `none` where one is missing."""
    return package_versions(get(backend))


def device_of(model: nn.Module) -> str:
    """`cpu` or `cuda`: where the model's parameters are; `cpu` for a model without any."""
    for parameter in model.parameters():
        return parameter.device.type
    return "cpu"
