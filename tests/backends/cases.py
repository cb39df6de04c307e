"""Every configuration that a backend says it supports, found by asking: a new adapter is tested without a new test."""

from __future__ import annotations

from dataclasses import dataclass

from backends import (
    Activations,
    Form,
    ModuleKind,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    Scheme,
    Supported,
    available,
    capability,
    resolve,
)
from backends._spec import FORMAT_BITS, INTEGER_BITS, NumberFormat

GRANULARITIES = (PerTensor(), PerChannel(), PerGroup(32), PerGroup(128))
FEW_WIDTHS = {"ptq": (2, 4, 8)}
"""Of backends whose codes of all widths take one path, tested at every width in their own tests."""


@dataclass(frozen=True)
class Case:
    """A supported request."""

    backend: str
    spec: QuantSpec
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        spec = self.spec
        width = spec.bits if spec.format == "int" else ""
        own = "-".join(f"{k}={v}" for k, v in self.options)
        method = f"-{spec.method}" if spec.method else ""
        modules = "" if len(spec.modules) == 1 else "-" + "+".join(sorted(spec.modules))
        activations = f"-{spec.activations}" if spec.activations else ""
        return (
            f"{self.backend}-{spec.scheme}-{spec.format}{width}-{spec.granularity}{method}{modules}{activations}{own}"
        )


def _asked() -> list[Case]:
    found = []
    for backend in available():
        for scheme in Scheme:
            for number_format in NumberFormat:
                integers = FEW_WIDTHS.get(backend, INTEGER_BITS)
                widths = [FORMAT_BITS[number_format]] if number_format in FORMAT_BITS else integers
                found += [
                    Case(backend, QuantSpec(scheme, granularity, bits, number_format))
                    for granularity in GRANULARITIES
                    for bits in widths
                ]
    return found


def _form(case: Case) -> Form | None:
    answer = capability(case.spec, case.backend, dict(case.options))
    return answer.form if isinstance(answer, Supported) else None


_WHOLE = frozenset(ModuleKind)
_ENCODER = frozenset({"encoder"})
_CONV = frozenset({"linear", "conv"})
_MORE = [
    Case("ctranslate2", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, modules=_WHOLE)),
    Case("ctranslate2", QuantSpec(Scheme.DYNAMIC, PerTensor(), 16, modules=_WHOLE)),
    Case("openvino", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, parts=_ENCODER)),
    Case("openvino", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, symmetric=False, modules=_CONV, parts=_ENCODER)),
    Case("openvino", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, parts=_ENCODER)),
    Case("openvino", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 4, symmetric=True, parts=_ENCODER)),
    Case("openvino", QuantSpec(Scheme.STATIC, PerChannel(), 8, parts=_ENCODER)),
    Case("openvino", QuantSpec(Scheme.STATIC, PerChannel(), 8, modules=_CONV, parts=_ENCODER)),
    Case(
        "torch_dynamic", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, modules=frozenset({"linear", "head", "embedding"}))
    ),
    Case("torch_dynamic", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8), (("engine", "onednn"),)),
    Case("torch_dynamic", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8), (("engine", "qnnpack"),)),
    Case("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 8, modules=frozenset({"linear", "head", "conv"}))),
    Case("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 8), (("observer", "minmax"), ("reduce_range", True))),
    Case("quanto", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, modules=frozenset({"linear", "head"}))),
    Case("quanto", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, method="hqq")),
    Case(
        "quanto",
        QuantSpec(Scheme.STATIC, PerChannel(), 8, "fp8_e4m3", activations=Activations(8, "fp8_e4m3")),
    ),
    Case("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, method="rtn", modules=frozenset({"linear", "head"}))),
    Case("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 3), (("axis", 0),)),
    Case("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(256), 4), (("straddle", True),)),
    Case("bitsandbytes", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, "nf4"), (("double_quant", True),)),
    Case("bitsandbytes", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8), (("threshold", 0.0),)),
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 3, method="spqr", modules=frozenset({"linear", "head"}))),
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 3, method="awq"), (("low_rank", 2),)),
    Case("ptq", QuantSpec(Scheme.DYNAMIC, PerChannel(), 4, method="quarot"), (("smooth", 0.5),)),
]

_FORMS = [(case, _form(case)) for case in [*_asked(), *_MORE]]
SUPPORTED = [case for case, form in _FORMS if form is Form.LAYERS]
"""Those whose layers are modules."""
ENGINES = list(
    {
        (case.backend, resolve(case.spec, case.backend)[0]): case
        for case, form in _FORMS
        if form not in (None, Form.LAYERS)
    }.values()
)
"""Those that an engine outside torch computes, in whole or in part; each resolved spec once."""
