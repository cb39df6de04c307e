"""Specs, options and reports as JSON values and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from backends.core.codes import (
    Activations,
    NumberFormat,
    PerChannel,
    PerGroup,
    PerTensor,
    WeightCode,
    parse_granularity,
)
from backends.core.errors import SpecError, did_you_mean
from backends.core.report import LayerReport, QuantReport
from backends.core.spec import ModuleKind, QuantSpec

LATER = {"later": True}
"""Metadata of an option that came after results were published: its default is left out of JSON, so that ids stay."""


def to_jsonable(value: Any) -> Any:
    """Dataclasses and containers as JSON values: granularities as their strings, sets sorted."""
    if isinstance(value, (PerTensor, PerChannel, PerGroup)):
        return str(value)
    if is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        later = {
            field.name for field in fields(value) if field.metadata.get("later") and own[field.name] == field.default
        }
        return {name: to_jsonable(item) for name, item in own.items() if name not in later}
    if isinstance(value, dict):
        return {key: to_jsonable(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    return value


def spec_to_dict(spec: QuantSpec) -> dict[str, Any]:
    """Every field of `spec` as JSON values, the same for equal specs."""
    values: dict[str, Any] = to_jsonable(spec)
    return values


def spec_from_dict(values: dict[str, Any]) -> QuantSpec:
    """The inverse of `spec_to_dict`."""
    activations = values["activations"]
    return QuantSpec(**{**values, "activations": None if activations is None else Activations(**activations)})


def options_from_dict(kind: type, values: dict[str, Any]) -> Any:
    """Build an adapter's options from a table.

    Raises:
        SpecError: a key that the adapter does not know, or a value of the wrong type.
    """
    known = {field.name: field for field in fields(kind)}
    for key in values:
        if key not in known:
            allowed = ", ".join(known) or "none at all"
            raise SpecError(f"unknown option {key!r}; this backend has {allowed}{did_you_mean(key, known)}")
    return kind(**{key: _of_type(type(known[key].default), key, value) for key, value in values.items()})


def _of_type(expected: type, key: str, value: Any) -> Any:
    """`value` itself; an integer where a float is expected becomes one."""
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise SpecError(f"option {key!r} is {value!r}; it must be of type {expected.__name__}")
    return value


def report_from_dict(values: dict[str, Any]) -> QuantReport:
    """The inverse of `to_jsonable(report)`."""
    layers = tuple(_layer_from_dict(layer) for layer in values["layers"])
    return QuantReport(layers, values["size_bytes"], values["full_precision_bytes"], tuple(values["notes"]))


def _layer_from_dict(values: dict[str, Any]) -> LayerReport:
    codes = {key: _code_from_dict(values[key]) for key in ("requested", "effective")}
    return LayerReport(**{**values, **codes, "kind": ModuleKind(values["kind"]), "shape": tuple(values["shape"])})


def _code_from_dict(values: dict[str, Any] | None) -> WeightCode | None:
    if values is None:
        return None
    granularity = parse_granularity(values["granularity"])
    return WeightCode(values["bits"], NumberFormat(values["format"]), granularity, values["symmetric"])
