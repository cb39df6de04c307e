"""Our own methods for linear layers of encoder-decoder models, one file each, on one calibration pass.

No library offers GPTQ, AWQ, SmoothQuant, OmniQuant or rotations for speech models. Here every method
ends in the same packed layer (`_linear.py`), so that they can be combined: the options `smooth`, `rotate`,
`clip` and `low_rank` go with any of them. Activations are rounded in simulation.
"""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from backends.core.base import Calibration, Capability, Supported, Unsupported
from backends.core.checkpoint import adopted
from backends.core.codes import BLOCK_SIZES, Activations, WeightCode
from backends.core.errors import ModelError, UnsupportedError
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate, Target, chosen
from backends.core.spec import ModuleKind, QuantSpec, Scheme, completed
from backends.ptq._options import PtqOptions
from backends.ptq._rules import refused_code, refused_options, refused_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from backends.core.checkpoint import Quantized
    from backends.core.integers import IntegerWeight
    from backends.ptq._method import Request

_WITHOUT_DATA = frozenset({"rtn", "quarot"})
"""Methods that look at the weights alone."""
_AS_RTN = frozenset({"rtn", "gptq", "gptaq"})
"""Methods whose packed layers hold the same tensors."""


@cache
def methods() -> tuple[str, ...]:
    """Names of all methods, without importing one: the public modules of this package."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


class Ptq(LayerwiseBackend):
    """Linear layers and the head."""

    name = "ptq"
    packages = ("torch",)
    options = PtqOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})

    def __init__(self) -> None:
        self.exports = {"onnx": _export_onnx}

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric at 8 bits and in block formats; dynamic activations so per token, static ones affine per tensor."""
        activations = None
        if spec.scheme in (Scheme.DYNAMIC, Scheme.STATIC):
            usual = "per_tensor" if spec.scheme is Scheme.STATIC else "per_token"
            granularity = usual if spec.activations is None else spec.activations.granularity
            activations = Activations(8, granularity=granularity, symmetric=granularity == "per_token")
        symmetric = spec.bits == 8 or spec.format in BLOCK_SIZES
        return completed(spec, symmetric=symmetric, activations=activations, method="gptq")

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Integers of 2 to 8 bits in every granularity, and block floats; activations are simulated."""
        if spec.scheme is Scheme.NONE:
            return Unsupported("these methods quantize: use the backend none or cast for scheme none")
        if spec.method not in methods():
            return Unsupported(f"method {spec.method!r} is not one of {', '.join(methods())}")
        if not spec.modules <= self.kinds:
            return Unsupported("linear layers and the head only")
        reason = refused_code(spec) or refused_options(spec, options)
        if reason is not None:
            return Unsupported(reason)
        if spec.activations is None:
            return Supported(note="codes are unpacked in plain torch in every call: small, not fast")
        return Supported(simulated=True, note="activations are rounded and stay floats")

    def recipe_refused(self, spec: QuantSpec) -> str | None:
        """Rules for single layers beside methods that take a block together, or beside a budget."""
        return refused_recipe(spec)

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """All but rounding and rotation, and these too for a static range, an input's power or a budget of bits."""
        asked = spec.scheme is Scheme.STATIC or spec.bits is None or options.smooth > 0
        return asked or spec.method not in _WITHOUT_DATA

    def sized_as(self, spec: QuantSpec, options: Any) -> QuantSpec | None:
        """Rounding, of what GPTQ and GPTAQ would make codes of: how codes are found changes none of their bytes."""
        used = {spec.method, *(rule.method for rule in spec.recipe)} - {None}
        if spec.scheme is not Scheme.WEIGHT_ONLY or spec.bits is None or options != PtqOptions() or not used <= _AS_RTN:
            return None
        recipe = tuple(replace(rule, method=rule.method and "rtn") for rule in spec.recipe)
        return replace(spec, method="rtn", recipe=recipe)

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """Group sizes that do not divide, and widths that cannot be rotated."""
        super().problems(targets, spec, options)
        if _rotates(spec, options):
            _check_rotation(targets)

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """The same of the whole model, and whether its layers can meet a budget."""
        super().check(model, spec, options)
        if spec.bits is None:
            from backends.ptq._mixed import check_budget, check_criterion

            check_criterion(model, options)
            check_budget(model, [target.candidate for target in chosen(model, spec)], spec, options)

    def replace(
        self, model: nn.Module, targets: list[Target], options: Any, calibration: Calibration | None
    ) -> tuple[str, ...]:
        """Block after block."""
        from backends.ptq._quantize import quantize_layers

        items = None if calibration is None else list(calibration)
        requests, notes = _requests(model, targets, options, items)
        quantize_layers(model, requests, items)
        if targets[0].spec.scheme is Scheme.STATIC:
            self._observe_ranges(model, list(requests), items)
        return notes

    def _observe_ranges(self, model: nn.Module, names: list[str], items: Calibration | None) -> None:
        modules: list[Any] = [model.get_submodule(name) for name in names]
        for module in modules:
            module.observing = True
        self.observe_all(model, set(names), items)
        for module in modules:
            module.observing = False

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight as it acts on the layer's own input."""
        weight: Tensor = module.original_weight()  # type: ignore[operator]
        return weight

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Unpacked from the codes of these rows alone."""
        rows: Tensor = module.original_weight(tokens)  # type: ignore[operator]
        return rows

    def integers(self, module: nn.Module, name: str) -> IntegerWeight:
        """The layer's codes as they are; not where something is added to them, or the input is rotated."""
        try:
            weight: IntegerWeight = module.integers()  # type: ignore[operator]
        except UnsupportedError as error:
            raise UnsupportedError(f"{name}: {error}") from None
        return weight

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """The code of the layer."""
        code: WeightCode = module.shape.code  # type: ignore[assignment, union-attr]
        return code, "" if spec.bits is not None else "bits allotted under the model's budget"

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """The layer's buffers."""
        return {name: tensor.detach() for name, tensor in module.named_buffers()}

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`; a layer's bits follow from how many bytes its codes take."""
        from backends.ptq._linear import QuantizedLinear, Shape
        from backends.ptq._packing import packed_bits

        rows, columns = cast(int, module.out_features), cast(int, module.in_features)
        code = WeightCode(packed_bits(tensors["codes"], rows * columns), spec.format, spec.granularity, spec.symmetric)
        return QuantizedLinear(Shape(rows, columns, code, spec.activations), tensors, _rotates(spec, options))


def _export_onnx(quantized: Quantized, path: Path, processor: Any) -> None:
    """As ONNX Runtime has it: a directory that `load` runs there."""
    adopted(quantized, "onnxruntime").save(path, processor)


def _requests(
    model: nn.Module, targets: list[Target], options: Any, items: list[Any] | None
) -> tuple[dict[str, Request], tuple[str, ...]]:
    """What is asked of every layer, and what to report of it."""
    from backends.ptq._method import Request

    codes, notes = {target.candidate.name: target.spec.weight_code for target in targets}, tuple[str, ...]()
    if None in codes.values():
        from backends.ptq._mixed import Asked, allot

        spec = targets[0].spec
        allotment = allot(model, [t.candidate for t in targets], Asked(spec, options, method_of(spec)), items or [])
        codes, notes = dict(allotment.codes), (allotment.note,)
    requests = {
        target.candidate.name: Request(code, target.spec.activations, options, method_of(target.spec))
        for target in targets
        if (code := codes[target.candidate.name]) is not None
    }
    return requests, notes


def _rotates(spec: QuantSpec, options: Any) -> bool:
    return options.rotate or spec.method == "quarot"


def _check_rotation(targets: list[Candidate]) -> None:
    from backends.ptq._hadamard import factors

    offenders = {c.name: c.weight.shape[1] for c in targets if factors(c.weight.shape[1]) is None}
    if offenders:
        named = ", ".join(f"{name} ({width})" for name, width in offenders.items())
        raise ModelError(f"no Hadamard matrix is known for the width of {named}: leave the rotation out")


def method_of(spec: QuantSpec) -> Any:
    """The method that a resolved spec names."""
    return import_module(f"backends.ptq.{spec.method}").METHOD


BACKEND = Ptq()
