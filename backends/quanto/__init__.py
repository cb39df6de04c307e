"""Optimum-Quanto: int8, int4, int2 and float8 weights, alone or with calibrated (static) activations.

Quanto has no dynamic activations: what publications call "dynamic int8 with Quanto" is its weight-only
int8. Its static activations are the inputs of layers: outputs, which its calibration would round in some
layers and not in others, stay float. Where its default group size does not divide a layer it takes a smaller
one in silence; here that is refused. Its int4 and int2 kernels compile a C++ extension at the first forward;
by default a bit-equal unpacking in plain torch stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, Capability, Supported, Unsupported
from backends.core.codes import (
    Activations,
    NumberFormat,
    PerChannel,
    PerGroup,
)
from backends.core.errors import ModelError
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate, group_divides
from backends.core.spec import ModuleKind, QuantSpec, Scheme, completed

if TYPE_CHECKING:
    from torch import Tensor, nn

_ACTIVATIONS = (
    Activations(8, NumberFormat.INT, "per_tensor", True),
    Activations(8, NumberFormat.FP8_E4M3, "per_tensor", True),
)


@dataclass(frozen=True)
class QuantoOptions:
    """Attributes: unpack: who unpacks int4 and int2 codes: `torch` (ours), or `extension` (Quanto's, compiled)."""

    unpack: str = "torch"


class Quanto(LayerwiseBackend):
    """Linear layers and the head."""

    name = "quanto"
    packages = ("optimum-quanto", "torch")
    options = QuantoOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})
    dtypes = frozenset({"float32"})
    """In 16 bits Quanto takes other kernels: one crashes the process on the CPU, others must be compiled."""

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """8-bit codes are symmetric, narrower ones affine; static activations are symmetric int8."""
        activations = Activations(symmetric=True) if spec.scheme is Scheme.STATIC else None
        return completed(spec, symmetric=spec.bits == 8, activations=activations)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """8-bit per channel; 4 and 2 bits per channel or per group, by minimum and maximum or by HQQ."""
        if spec.scheme is Scheme.DYNAMIC:
            return Unsupported("Quanto's activations are static only: use weight_only, or static with calibration")
        if spec.scheme is Scheme.NONE:
            return Unsupported("Quanto quantizes: use the backend none or cast for scheme none")
        if not spec.modules <= self.kinds:
            return Unsupported("Quanto quantizes linear layers and the head only")
        if options.unpack not in ("torch", "extension"):
            return Unsupported(f"option unpack {options.unpack!r} is not one of torch, extension")
        if spec.activations is not None and spec.activations not in _ACTIVATIONS:
            return Unsupported("Quanto's activations are symmetric, per tensor, 8-bit int or fp8_e4m3")
        if spec.format is NumberFormat.FP8_E4M3 or (spec.format is NumberFormat.INT and spec.bits == 8):
            return self._eight_bits(spec)
        if spec.format is NumberFormat.INT and spec.bits in (4, 2):
            return self._packed_bits(spec, options)
        return Unsupported("Quanto has int of 8, 4 and 2 bits and fp8_e4m3")

    @staticmethod
    def _eight_bits(spec: QuantSpec) -> Capability:
        if spec.granularity != PerChannel() or not spec.symmetric or spec.method != "rtn":
            return Unsupported("Quanto's 8-bit weights are symmetric per channel, method rtn")
        return Supported()

    @staticmethod
    def _packed_bits(spec: QuantSpec, options: Any) -> Capability:
        if spec.symmetric or spec.method not in ("rtn", "hqq"):
            return Unsupported("Quanto's 4- and 2-bit weights are affine, method rtn or hqq")
        if not isinstance(spec.granularity, (PerChannel, PerGroup)):
            return Unsupported("Quanto's 4- and 2-bit weights are per channel or per group")
        if options.unpack == "extension":
            return Supported(note="compiles Quanto's C++ extension at the first forward")
        return Supported(simulated=True, note="codes are unpacked in plain torch instead of Quanto's compiled kernel")

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """Groups must divide every row, and a float8 row must not be all zero (its scale would be 0 / 0)."""
        group_divides(targets, spec, "; Quanto would shrink the group in silence: choose a size that divides")
        if spec.format is not NumberFormat.FP8_E4M3:
            return
        empty = [c.name for c in targets if bool((c.weight.abs().amax(1) == 0).any())]
        if empty:
            raise ModelError(f"fp8_e4m3 gives NaN for a weight row that is all zero, found in {', '.join(empty)}")

    def notes(self, spec: QuantSpec, options: Any) -> tuple[str, ...]:
        """Names the stand-in kernel."""
        return (_STAND_IN,) if spec.bits in (4, 2) and options.unpack == "torch" else ()

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """Quanto's own module, its weights frozen."""
        from backends.quanto._modules import make

        module = make(candidate.module, spec, options)
        module.freeze()
        return module

    def observe(self, model: nn.Module, calibration: Calibration | None) -> None:
        """Quanto's own calibration, of inputs alone."""
        from backends.quanto._modules import CountedCalibration

        with CountedCalibration():
            super().observe(model, calibration)

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight that codes, scales and shifts stand for."""
        from backends.quanto._modules import dequantized

        return dequantized(module.weight)  # type: ignore[arg-type]

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """The codes of these rows, scaled as Quanto does."""
        from backends.quanto._modules import dequantized_rows

        return dequantized_rows(module.weight, tokens)  # type: ignore[arg-type]

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Quanto's own state, without scales of activations that are not quantized."""
        unused = ("output_",) if module.activation_qtype is not None else ("input_", "output_")
        return {key: tensor.detach() for key, tensor in module.state_dict().items() if not key.startswith(unused)}

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        from backends.quanto._modules import fill, make

        restored = make(module, spec, options)
        fill(restored, tensors)
        return restored


_STAND_IN = (
    "int4 and int2 codes are unpacked in plain torch, bit-equal to Quanto's compiled kernel: no latency is shown"
)

BACKEND = Quanto()
