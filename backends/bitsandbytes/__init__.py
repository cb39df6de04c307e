"""bitsandbytes: int8 weights (two computations), nf4 and fp4.

Its int8 layer computes one of two things depending on the module's training flag. Here the scheme
decides and the flag is pinned: `weight_only` dequantizes the weight and multiplies in float (CPU
only), `dynamic` is LLM.int8() with activations quantized per token and outlier columns in 16 bits.
4-bit layers keep the portable kernel: the AVX-512 one repacks the weight in place, with rounded scales.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backends.core.base import Capability, Supported, Unsupported
from backends.core.codes import (
    Activations,
    NumberFormat,
    PerChannel,
    PerGroup,
)
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate, group_divides
from backends.core.spec import ModuleKind, QuantSpec, Scheme

if TYPE_CHECKING:
    from torch import Tensor, nn

_BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_PER_TOKEN = Activations(8, NumberFormat.INT, "per_token", True)


@dataclass(frozen=True)
class BitsandbytesOptions:
    """What only bitsandbytes knows.

    Attributes:
        threshold: LLM.int8() computes columns with an activation above it in 16 bits; 0 computes all in 8.
        double_quant: the scales of 4-bit blocks are themselves quantized to 8 bits.
    """

    threshold: float = 6.0
    double_quant: bool = False


class Bitsandbytes(LayerwiseBackend):
    """Linear layers and the head."""

    name = "bitsandbytes"
    packages = ("bitsandbytes", "torch")
    options = BitsandbytesOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Absolute-maximum scales without zero points; LLM.int8() for the dynamic scheme."""
        symmetric = True if spec.symmetric is None else spec.symmetric
        dynamic = spec.scheme is Scheme.DYNAMIC
        activations = spec.activations or (_PER_TOKEN if dynamic else None)
        method = spec.method or ("llm_int8" if dynamic else "rtn")
        return replace(spec, symmetric=symmetric, activations=activations, method=method)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """int8 per channel, nf4 and fp4 per block of consecutive weights."""
        if spec.scheme not in (Scheme.WEIGHT_ONLY, Scheme.DYNAMIC):
            return Unsupported("bitsandbytes offers the schemes weight_only and dynamic")
        if not spec.modules <= self.kinds:
            return Unsupported("this adapter quantizes linear layers and the head only")
        if not spec.symmetric:
            return Unsupported("bitsandbytes has no zero points: leave symmetric out")
        four_bits = spec.format in (NumberFormat.NF4, NumberFormat.FP4)
        if options.double_quant and not four_bits:
            return Unsupported("option double_quant is for nf4 and fp4")
        if options.threshold != BitsandbytesOptions.threshold and spec.scheme is not Scheme.DYNAMIC:
            return Unsupported("option threshold is for the dynamic scheme")
        if four_bits:
            return self._four_bits(spec)
        if spec.format is NumberFormat.INT and spec.bits == 8:
            return self._eight_bits(spec, device)
        return Unsupported("bitsandbytes has int of 8 bits, nf4 and fp4")

    @staticmethod
    def _four_bits(spec: QuantSpec) -> Capability:
        if spec.scheme is not Scheme.WEIGHT_ONLY or spec.method != "rtn":
            return Unsupported("nf4 and fp4 are weight_only, method rtn")
        if not isinstance(spec.granularity, PerGroup) or spec.granularity.group_size not in _BLOCK_SIZES:
            sizes = ", ".join(map(str, _BLOCK_SIZES))
            return Unsupported(f"nf4 and fp4 have one scale per block: use per_group with a size of {sizes}")
        return Supported()

    @staticmethod
    def _eight_bits(spec: QuantSpec, device: str) -> Capability:
        if spec.granularity != PerChannel():
            return Unsupported("bitsandbytes int8 has one scale per channel: use per_channel")
        if spec.scheme is Scheme.WEIGHT_ONLY:
            if device != "cpu":
                return Unsupported("on a GPU bitsandbytes int8 always computes LLM.int8(): use the scheme dynamic")
            return Supported() if spec.method == "rtn" else Unsupported("weight_only int8 has the method rtn")
        if spec.method != "llm_int8" or spec.activations != _PER_TOKEN:
            return Unsupported("dynamic int8 is the method llm_int8 with symmetric 8-bit activations per token")
        return Supported(note="outlier columns are found over the whole batch: a result depends on what is in it")

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """4-bit blocks must divide every row: the library's CPU kernel is silently wrong otherwise."""
        group_divides(targets, spec, "; bitsandbytes would dequantize it wrongly: choose a size that divides")

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Not where LLM.int8's threshold picks outlier columns over all rows of a call."""
        return spec.scheme is not Scheme.DYNAMIC or options.threshold == 0

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """The library's own linear layer; the float module is not changed."""
        from backends.bitsandbytes._modules import make_four_bit, make_int8

        weight, bias = candidate.weight, candidate.module.bias
        if spec.format is NumberFormat.INT:
            return make_int8(weight, bias, options.threshold, spec.scheme is Scheme.WEIGHT_ONLY)  # type: ignore[arg-type]
        block = spec.granularity.group_size if isinstance(spec.granularity, PerGroup) else 64
        return make_four_bit(weight, bias, str(spec.format), block, options.double_quant)  # type: ignore[arg-type]

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight that the library computes with."""
        from backends.bitsandbytes._modules import dequantized

        return dequantized(module)

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """The codes of these rows, dequantized by the library."""
        from backends.bitsandbytes._modules import dequantized_rows

        return dequantized_rows(module, tokens)

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Codes, scales (of 4-bit blocks the whole quantization state) and bias."""
        from backends.bitsandbytes._modules import tensors_of

        return tensors_of(module)

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        from backends.bitsandbytes._modules import restore_four_bit, restore_int8

        if spec.format is NumberFormat.INT:
            return restore_int8(module, tensors, options.threshold, spec.scheme is Scheme.WEIGHT_ONLY)
        return restore_four_bit(module, tensors)


BACKEND = Bitsandbytes()
