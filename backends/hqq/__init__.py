"""HQQ: half-quadratic quantization of weights to 8, 4, 3, 2 or 1 bits (and 6 or 5, stored as 8).

HQQ's groups run over the flattened weight. Where a group does not divide the rows it would straddle
them; that is done only when the option `straddle` asks for it. With `axis = 0` a group is strided
over the whole weight instead. The solver of 0.2.8 lacks the step beta *= kappa of the publication.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backends.core.base import Capability, Supported, Unsupported
from backends.core.codes import (
    NumberFormat,
    PerChannel,
    PerGroup,
    WeightCode,
)
from backends.core.errors import ModelError
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate, group_divides
from backends.core.spec import ModuleKind, QuantSpec, Scheme

if TYPE_CHECKING:
    from torch import Tensor, nn

_BITS = (8, 6, 5, 4, 3, 2, 1)
_ROWS_PACKED = {4: 2, 2: 4, 1: 8}
"""How many groups share a byte; 3-bit codes are padded to ten in 32 bits instead."""


@dataclass(frozen=True)
class HqqOptions:
    """HQQ's own choices.

    Attributes:
        axis: the axis of the grouped weight that statistics reduce: 1 (consecutive weights) or 0 (strided).
        straddle: groups may run over the end of a row.
    """

    axis: int = 1
    straddle: bool = False


class Hqq(LayerwiseBackend):
    """Linear layers and the head, weights only."""

    name = "hqq"
    packages = ("hqq", "torch")
    options = HqqOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Affine codes, method hqq."""
        symmetric = False if spec.symmetric is None else spec.symmetric
        return replace(spec, symmetric=symmetric, method=spec.method or "hqq")

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Affine integers per channel or per group; method hqq, or rtn without the solver."""
        if spec.scheme is not Scheme.WEIGHT_ONLY:
            return Unsupported("HQQ quantizes weights only: use the scheme weight_only")
        if not spec.modules <= self.kinds:
            return Unsupported("HQQ quantizes linear layers and the head only")
        if spec.format is not NumberFormat.INT or spec.bits not in _BITS:
            return Unsupported("HQQ has int of 8, 6, 5, 4, 3, 2 and 1 bits")
        if spec.symmetric or spec.method not in ("hqq", "rtn"):
            return Unsupported("HQQ's weights are affine, method hqq (its solver) or rtn")
        if not isinstance(spec.granularity, (PerChannel, PerGroup)):
            return Unsupported("HQQ has one scale per channel or per group")
        if isinstance(spec.granularity, PerGroup) and spec.granularity.group_size % 8:
            return Unsupported("HQQ's group size must be a multiple of 8")
        if options.axis not in (0, 1) or (options.axis == 0 and not isinstance(spec.granularity, PerGroup)):
            return Unsupported("option axis is 1, or 0 with groups")
        if options.straddle and (options.axis == 0 or not isinstance(spec.granularity, PerGroup)):
            return Unsupported("option straddle is for groups with axis 1")
        return Supported(note="5- and 6-bit codes are stored in 8 bits" if spec.bits in (5, 6) else "")

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """Groups must divide rows (or, straddling, the weight), and fill whole bytes."""
        if options.axis == 1 and not options.straddle:
            group_divides(targets, spec, "; choose a size that divides, or set the option straddle = true")
        packed = _ROWS_PACKED.get(spec.bits or 0, 1)
        narrow = [c.name for c in targets if c.weight.shape[1] % 8 and not isinstance(spec.granularity, PerGroup)]
        if narrow:
            raise ModelError(f"HQQ needs rows of a multiple of 8 weights, unlike those of {', '.join(narrow)}")
        offenders = [c.name for c in targets if _groups(c, spec, options) % packed]
        if offenders:
            raise ModelError(f"{spec.bits}-bit codes do not fill whole bytes in {', '.join(offenders)}")

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """HQQ's own linear layer; the float module is not changed."""
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

        size = spec.granularity.group_size if isinstance(spec.granularity, PerGroup) else candidate.weight.shape[1]
        config = BaseQuantizeConfig(nbits=spec.bits, group_size=size, axis=options.axis)
        config["weight_quant_params"]["optimize"] = spec.method == "hqq"
        weight, bias = candidate.weight, candidate.module.bias
        linear: nn.Module = HQQLinear.from_weights(
            weight.clone(), bias, config, compute_dtype=weight.dtype, device=str(weight.device)
        )
        return linear

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """As asked; 5 and 6 bits occupy 8."""
        code, _ = super().effective(module, spec, options)
        return code, f"{spec.bits}-bit codes are stored in 8 bits" if spec.bits in (5, 6) else ""

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight that codes, scales and zero points stand for."""
        weight: Tensor = module.dequantize()  # type: ignore[operator]
        return weight

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """The codes of these rows, scaled as HQQ does."""
        from backends.hqq._modules import dequantized_rows

        return dequantized_rows(module, tokens)

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Packed codes, scales, zero points and bias."""
        codes, meta, bias = module.W_q, module.meta, module.bias
        tensors = {"codes": codes, "scale": meta["scale"], "zero_point": meta["zero"]}  # type: ignore[index]
        return tensors if bias is None else {**tensors, "bias": bias}  # type: ignore[dict-item, return-value]

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        from backends.hqq._modules import restore

        return restore(module, tensors, spec, options.axis)


def _groups(candidate: Candidate, spec: QuantSpec, options: Any) -> int:
    """How many groups of packed codes a weight has along the packed axis."""
    if not isinstance(spec.granularity, PerGroup):
        return candidate.weight.shape[0]
    groups, rest = divmod(candidate.weight.numel(), spec.granularity.group_size)
    if rest:
        raise ModelError(f"group size {spec.granularity.group_size} does not divide the weight of {candidate.name}")
    return groups if options.axis == 1 else spec.granularity.group_size


BACKEND = Hqq()
