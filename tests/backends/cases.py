"""Every configuration that a backend says it supports, found by asking: a new adapter is tested without a new test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from backends import (
    Activations,
    Form,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantSpec,
    Scheme,
    available,
    resolve,
)
from backends.core.base import missing_package
from backends.core.codes import INTEGER_BITS
from backends.core.registry import get
from backends.core.spec import EVERYTHING
from backends.testing import Case, asked

FEW_WIDTHS = {
    "hqq": (8, 4, 3),
    "onnxruntime": (4,),
    "ptq": (4,),
    "reference": (4,),
    "torchao": (4, 7, 8),
}
"""Of backends whose codes of all widths take one path; tests of their own try every width."""


def saturates(backend: str, scheme: str, bits: int | None, options: Mapping[str, Any] | None = None) -> bool:
    """Whether a library refuses these products on the processor that runs the tests, because it has no VNNI."""
    if scheme not in ("dynamic", "static") or bits != 8 or missing_package(get(backend)):
        return False
    if backend == "torchao":
        from backends.torchao._modules import products_are_exact

        return not products_are_exact()
    if backend == "torch_static":
        from backends._torch_ao import _static

        settings = {"reduce_range": False, "engine": "x86", **(options or {})}
        return not (settings["reduce_range"] or _static.products_are_exact(settings["engine"]))
    return False


_TOKENS = Activations(8, granularity="per_token", symmetric=False)
_WHOLE = EVERYTHING
_ENCODER = frozenset({"encoder"})
_HEAD = frozenset({"linear", "head"})
_CONV = frozenset({"linear", "conv"})
_TIED = frozenset({"linear", "tied"})
_SMALL = ({"modules": ["tied"], "bits": 8}, {"parts": ["encoder"], "bits": 8}, {"match": "*decoder*fc1", "skip": True})
"""A recipe of another width for the tie and for the encoder, and of a layer that is left out."""
_SEVEN = (("reduce_range", True),)
_MORE = [
    Case("reference", QuantSpec(Scheme.DYNAMIC, PerChannel(), 4, modules=_TIED, rest="fp16")),
    Case("reference", QuantSpec(Scheme.STATIC, PerChannel(), 4, recipe=_SMALL, outputs=True)),
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 6, modules=_TIED, rest="fp16")),
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, method="awq", recipe=_SMALL, rest="bf16")),
    Case("ptq", QuantSpec(Scheme.STATIC, PerChannel(), 8, method="smoothquant", modules=_TIED)),
    Case("quanto", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, modules=_TIED, rest="fp16")),
    Case("quanto", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, modules=_TIED)),
    Case("quanto", QuantSpec(Scheme.STATIC, PerChannel(), 8, modules=_TIED, rest="published")),
    Case(
        "quanto",
        QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, recipe=[_SMALL[0] | {"granularity": "per_channel"}, _SMALL[2]]),
    ),
    Case("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, modules=_TIED, rest="fp16")),
    Case("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 3, modules=_TIED), (("axis", 0),)),
    Case("hqq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, recipe=_SMALL)),
    Case("bitsandbytes", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, "nf4", modules=_TIED, rest="fp16")),
    Case("bitsandbytes", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, modules=_TIED)),
    Case(
        "bitsandbytes",
        QuantSpec(
            Scheme.WEIGHT_ONLY,
            PerGroup(64),
            4,
            "nf4",
            recipe=[{"modules": ["tied"], "bits": 8, "format": "int", "granularity": "per_channel"}, _SMALL[2]],
        ),
    ),
    Case("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, modules=_TIED, rest="fp16")),
    Case("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, method="smoothquant", modules=_TIED)),
    Case("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, recipe=_SMALL)),
    Case("torch_dynamic", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, recipe=[_SMALL[2]], rest="fp16")),
    Case(
        "torch_static",
        QuantSpec(Scheme.STATIC, PerChannel(), 8, recipe=[_SMALL[2], {"parts": ["encoder"], "outputs": False}]),
        _SEVEN,
    ),
    Case("ctranslate2", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, modules=_WHOLE)),
    Case("ctranslate2", QuantSpec(Scheme.DYNAMIC, PerTensor(), 16, modules=_WHOLE)),
    *[
        Case("ggml", QuantSpec(Scheme.DYNAMIC, PerGroup(group), bits, form, symmetric, method=method, modules=_TIED))
        for form, bits, group, symmetric, method in [
            ("int", 8, 32, None, None),
            ("int", 5, 32, False, "imatrix"),
            ("int", 4, 32, None, None),
            ("iq4_nl", 4, 32, None, None),
            ("q6_k", 6, 16, None, None),
            ("q4_k", 4, 32, None, "imatrix"),
        ]
    ],
    Case("onnxruntime", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, symmetric=True, modules=_TIED)),
    Case("onnxruntime", QuantSpec(Scheme.DYNAMIC, PerChannel(), 7)),
    Case("onnxruntime", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, modules=_TIED)),
    Case("onnxruntime", QuantSpec(Scheme.STATIC, PerTensor(), 8, modules=_TIED, outputs=False)),
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
    Case("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 8), (("observer", "minmax"), *_SEVEN)),
    Case("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 8), (("engine", "qnnpack"),)),
    Case("torch_static", QuantSpec(Scheme.STATIC, PerTensor(), 8, modules=_HEAD, outputs=False), _SEVEN),
    Case("torch_static", QuantSpec(Scheme.STATIC, PerChannel(), 8, outputs=False), (("observer", "minmax"), *_SEVEN)),
    Case("reference", QuantSpec(Scheme.STATIC, PerChannel(), 8, modules=_WHOLE, outputs=True)),
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
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(16), 4, "nvfp4", modules=_HEAD), (("rotate", True),)),
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, "mxfp4", method="awq")),
    Case("ptq", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 8, "mxfp8", method="rtn"), (("clip", True),)),
    Case("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, modules=frozenset({"linear", "head"}))),
    Case("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(32), 4, symmetric=False)),
    Case("torchao", QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8, symmetric=False)),
    Case("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, activations=Activations(8, symmetric=True))),
    Case("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, activations=_TOKENS)),
    Case("torchao", QuantSpec(Scheme.STATIC, PerChannel(), 8, activations=Activations(8, symmetric=False))),
    Case("torchao", QuantSpec(Scheme.DYNAMIC, PerChannel(), 8, method="smoothquant"), (("alpha", 0.8),)),
    Case("torchao", QuantSpec(Scheme.STATIC, PerChannel(), 8, method="smoothquant")),
    Case("torchao", QuantSpec(Scheme.STATIC, PerTensor(), 7, method="smoothquant")),
]

_ASKED = [case for backend in available() for case in asked(backend, FEW_WIDTHS.get(backend, INTEGER_BITS))]
_POSSIBLE = [c for c in [*_ASKED, *_MORE] if not saturates(c.backend, c.spec.scheme, c.spec.bits, dict(c.options))]
_FORMS = [(case, case.form) for case in _POSSIBLE]
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


def require(backend: str, scheme: str = "weight_only", bits: int = 8, options: Mapping[str, Any] | None = None) -> None:
    """Skip the test where the library of `backend` is not installed, or cannot multiply on this processor."""
    missing = missing_package(get(backend))
    if missing is not None:
        pytest.skip(missing.reason)
    if saturates(backend, scheme, bits, options):
        pytest.skip(f"products of 8-bit codes of {backend} saturate on this processor")
