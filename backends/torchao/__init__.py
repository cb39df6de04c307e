"""torchao, the successor of torch.ao: int8 and float8 weights, and int8 activations, dynamic or static.

Tried with torchao 0.18 on the CPU. Integers of fewer than 8 bits are stored as int8 whatever their width, so they
are simulated; its int4 kernels, float8 activations and one-dimensional convolutions do not work on the CPU. Sums of
8-bit products saturate on processors without VNNI, where torchao's own remedy is 7 bits for weights and activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.core.base import Capability, Supported, Unsupported
from backends.core.codes import (
    Activations,
    NumberFormat,
    PerGroup,
    PerTensor,
    WeightCode,
)
from backends.core.errors import ModelError
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate, group_divides
from backends.core.spec import ModuleKind, QuantSpec, Scheme, completed

if TYPE_CHECKING:
    from torch import Tensor, nn

_ALPHA = 0.5


@dataclass(frozen=True)
class TorchaoOptions:
    """Attributes: alpha: of SmoothQuant, from 0 (weights keep their difficulty) to 1 (they take all of the inputs')."""

    alpha: float = _ALPHA


class Torchao(LayerwiseBackend):
    """Linear layers and the head."""

    name = "torchao"
    packages = ("torchao", "torch")
    options = TorchaoOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric codes, but for one bit; activations as wide as the weights, dynamic ones per token."""
        activations = None
        if spec.scheme in (Scheme.DYNAMIC, Scheme.STATIC):
            granularity = "per_token" if spec.scheme is Scheme.DYNAMIC else "per_tensor"
            activations = Activations(7 if spec.bits == 7 else 8, granularity=granularity, symmetric=True)
        return completed(spec, symmetric=spec.bits != 1, activations=activations)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """int8 and float8 weights, narrower ones in simulation; int8 activations with rtn or smoothquant."""
        if device != "cpu":
            return Unsupported('this adapter of torchao was tried on the CPU only: set device = "cpu"')
        if spec.scheme is Scheme.NONE:
            return Unsupported("torchao quantizes: use the backend none or cast for scheme none")
        if not spec.modules <= self.kinds:
            return Unsupported("torchao fails on Conv1d, and its embeddings are not offered: use linear and head")
        if options.alpha != _ALPHA and spec.method != "smoothquant":
            return Unsupported("option alpha is for the method smoothquant")
        if not 0 <= options.alpha <= 1:
            return Unsupported(f"option alpha is {options.alpha}; it must be between 0 and 1")
        return self._weights(spec) if spec.scheme is Scheme.WEIGHT_ONLY else self._products(spec)

    @staticmethod
    def _weights(spec: QuantSpec) -> Capability:
        if spec.method != "rtn":
            return Unsupported("torchao's weight_only has the method rtn here; smoothquant needs dynamic or static")
        if spec.format is NumberFormat.FP8_E4M3:
            return Supported() if spec.symmetric else Unsupported("fp8_e4m3 has no zero points: leave symmetric out")
        if spec.format is not NumberFormat.INT or spec.bits is None:
            return Unsupported("torchao has int of 8 bits, fp8_e4m3, and, in simulation, int of 7 to 1 bits")
        if spec.bits == 8 and spec.symmetric:
            return Supported()
        if isinstance(spec.granularity, PerTensor):
            return Unsupported("one scale for a tensor is for symmetric int8: use per_channel or per_group")
        if spec.bits == 1 and spec.symmetric:
            return Unsupported("torchao's symmetric 1-bit codes are all zero: set symmetric = false")
        if spec.bits == 8:
            return Supported()
        return Supported(simulated=True, note=_AS_INT8)

    @staticmethod
    def _products(spec: QuantSpec) -> Capability:
        activations = spec.activations
        if spec.format is not NumberFormat.INT or spec.bits not in (8, 7) or not spec.symmetric:
            return Unsupported(
                "torchao's int products take symmetric weights of 8 bits, or 7; its float8 ones need a GPU, "
                "and narrower weights beside int8 activations are not offered"
            )
        if spec.method not in ("rtn", "smoothquant"):
            return Unsupported("torchao's methods are rtn and smoothquant here")
        if isinstance(spec.granularity, PerGroup):
            return Unsupported("torchao's int8 products have no groups: use per_tensor or per_channel")
        if activations is None or activations.format is not NumberFormat.INT or activations.bits != spec.bits:
            return Unsupported("activations are int of as many bits as the weights, 8 or 7")
        if spec.scheme is Scheme.STATIC and activations.granularity != "per_tensor":
            return Unsupported("static activation ranges are per tensor")
        return Supported(note=_SEVEN if spec.bits == 7 else "")

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """For static ranges, and for SmoothQuant."""
        return spec.scheme is Scheme.STATIC or spec.method == "smoothquant"

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """What torchao skips in silence, cannot divide, or turns into NaN or saturated sums."""
        from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

        from backends.torchao._modules import refuse_saturating_products

        group_divides(targets, spec)
        skipped = [c.name for c in targets if isinstance(c.module, NonDynamicallyQuantizableLinear)]
        if skipped:
            raise ModelError(f"torchao skips the output projection of nn.MultiheadAttention: {', '.join(skipped)}")
        empty = [c.name for c in targets if spec.format is NumberFormat.FP8_E4M3 and _has_empty_slice(c, spec)]
        if empty:
            raise ModelError(
                f"fp8_e4m3 gives NaN where all weights of one scale are zero ({spec.granularity}), "
                f"found in {', '.join(empty)}"
            )
        refuse_saturating_products(spec)

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """torchao's weight in a linear layer, or an observing layer until calibration is over."""
        from backends.torchao._modules import ObservedLinear, quantized, with_weight

        module: Any = candidate.module
        if not self.calibrates(spec, options):
            return quantized(module, spec, options.alpha)
        observed = with_weight(ObservedLinear, module.weight, module.bias)
        observed.request = (spec, options.alpha)
        return observed

    def freeze(self, module: nn.Module) -> nn.Module:
        """The quantized layer of an observed one."""
        from backends.torchao._modules import ObservedLinear, quantized

        return quantized(module, *module.request) if isinstance(module, ObservedLinear) else module

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """As asked; narrow codes occupy 8 bits."""
        code, _ = super().effective(module, spec, options)
        return code, _AS_INT8 if code.format is NumberFormat.INT and code.bits < 8 else ""

    def notes(self, spec: QuantSpec, options: Any) -> tuple[str, ...]:
        """That narrow codes save nothing."""
        return (_AS_INT8,) if spec.bits is not None and spec.bits < 8 else ()

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight that codes and scales stand for, as it acts on the layer's own input."""
        from backends.torchao._modules import dequantized

        return dequantized(module.weight)

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Of a weight that holds these rows alone."""
        from backends.torchao._modules import dequantized_rows

        return dequantized_rows(module.weight, tokens)

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Codes, scales, zero points, what is done to inputs, and the bias."""
        from backends.torchao._modules import taken_apart

        tensors = taken_apart(module.weight)
        return tensors if module.bias is None else {**tensors, "bias": module.bias.detach()}  # type: ignore[operator]

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        from backends.torchao._modules import FlatLinear, put_together, refuse_saturating_products, with_weight

        refuse_saturating_products(spec)
        shape: Any = module.weight.shape  # type: ignore[union-attr]
        return with_weight(FlatLinear, put_together(shape, tensors, spec), tensors.get("bias"))


def _has_empty_slice(candidate: Candidate, spec: QuantSpec) -> bool:
    """Whether all weights under one scale are zero."""
    weight = candidate.weight
    if isinstance(spec.granularity, PerTensor):
        return not bool(weight.any())
    rows = weight.reshape(-1, spec.granularity.group_size) if isinstance(spec.granularity, PerGroup) else weight
    return not bool(rows.any(1).all())


_AS_INT8 = "torchao stores codes of fewer than 8 bits as int8: nothing gets smaller than with 8 bits"
_SEVEN = "7-bit codes for processors without VNNI, stored as int8"

BACKEND = Torchao()
