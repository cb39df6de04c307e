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
from typing import TYPE_CHECKING, Any

from backends._base import Calibration, Capability, Supported, Unsupported
from backends._layerwise import Candidate, LayerwiseBackend
from backends._spec import Activations, NumberFormat, QuantSpec, Scheme, WeightCode
from backends.ptq._options import PtqOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

_WITHOUT_DATA = frozenset({"rtn", "quarot"})
"""Methods that look at the weights alone."""


@cache
def methods() -> tuple[str, ...]:
    """Names of all methods, without importing one: the public modules of this package."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


class Ptq(LayerwiseBackend):
    """Linear layers and the head."""

    name = "ptq"
    packages = ("torch",)
    options = PtqOptions

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric at 8 bits only; dynamic activations symmetric per token, static ones affine per tensor."""
        symmetric = spec.bits == 8 if spec.symmetric is None else spec.symmetric
        activations = spec.activations
        if spec.scheme in (Scheme.DYNAMIC, Scheme.STATIC):
            static = spec.scheme is Scheme.STATIC
            activations = activations or Activations(8, granularity="per_tensor" if static else "per_token")
            if activations.symmetric is None:
                activations = replace(activations, symmetric=activations.granularity == "per_token")
        return replace(spec, symmetric=symmetric, activations=activations, method=spec.method or "gptq")

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Integers of 2 to 8 bits in every granularity, weights alone or with simulated activations."""
        if spec.scheme is Scheme.NONE:
            return Unsupported("these methods quantize: use the backend none or cast for scheme none")
        if spec.format is not NumberFormat.INT or spec.bits is None or spec.bits < 2:
            return Unsupported("weights are integers of 2 to 8 bits")
        if spec.method not in methods():
            return Unsupported(f"method {spec.method!r} is not one of {', '.join(methods())}")
        if not spec.modules <= self.kinds:
            return Unsupported("linear layers and the head only")
        refused = _refused_activations(spec)
        if refused is not None:
            return refused
        if spec.activations is None:
            return Supported(note="codes are unpacked in plain torch in every call: small, not fast")
        return Supported(simulated=True, note="activations are rounded and stay floats")

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """All but rounding and rotation, and these too where a static range or an input's power is asked for."""
        return spec.scheme is Scheme.STATIC or spec.method not in _WITHOUT_DATA or options.smooth > 0

    def replace(
        self, model: nn.Module, targets: list[Candidate], spec: QuantSpec, options: Any, calibration: Calibration | None
    ) -> None:
        """Block after block."""
        from backends.ptq._quantize import quantize_layers

        items = None if calibration is None else list(calibration)
        quantize_layers(model, [c.name for c in targets], method_of(spec), request_of(spec, options), items)
        if spec.scheme is Scheme.STATIC:
            self._observe_ranges(model, targets, items)

    def _observe_ranges(self, model: nn.Module, targets: list[Candidate], items: Calibration | None) -> None:
        modules: list[Any] = [model.get_submodule(c.name) for c in targets]
        for module in modules:
            module.observing = True
        self.observe_all(model, {c.name for c in targets}, items)
        for module in modules:
            module.observing = False

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight as it acts on the layer's own input."""
        weight: Tensor = module.original_weight()  # type: ignore[operator]
        return weight

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """The code of the layer."""
        code: WeightCode = module.shape.code  # type: ignore[assignment, union-attr]
        return code, ""

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """The layer's buffers."""
        return {name: tensor.detach() for name, tensor in module.named_buffers()}

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        from backends.ptq._linear import QuantizedLinear, Shape

        request = request_of(spec, options)
        shape = Shape(module.out_features, module.in_features, request.code, request.activations)  # type: ignore[arg-type]
        return QuantizedLinear(shape, tensors, rotated=options.rotate or spec.method == "quarot")


def _refused_activations(spec: QuantSpec) -> Capability | None:
    code = spec.activations
    if code is None:
        return None
    if code.format is not NumberFormat.INT or code.bits < 4:
        return Unsupported("activations are integers of 4 to 8 bits")
    if spec.scheme is Scheme.STATIC and code.granularity != "per_tensor":
        return Unsupported("static activation ranges are per tensor")
    return None


def request_of(spec: QuantSpec, options: Any) -> Any:
    """What is asked of every layer."""
    from backends.ptq._method import Request

    assert spec.weight_code is not None, "capability refuses bits = None"
    return Request(spec.weight_code, spec.activations, options)


def method_of(spec: QuantSpec) -> Any:
    """The method that a resolved spec names."""
    return import_module(f"backends.ptq.{spec.method}").METHOD


BACKEND = Ptq()
