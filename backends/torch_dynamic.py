"""torch.ao's dynamic quantization: int8 weights with activation scales per call, and fp16 weights.

Activations are coded per tensor, affine, in 7 bits (torch.ao reduces the range, but for qnnpack), so a
result depends on what else is in the batch. Half precision is weight-only in truth and is offered as such.
Tried with torch 2.13; a torch without torch.ao.quantization is answered by pointing to the backend torchao.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backends._torch_ao import ended, torch_ao
from backends.core.base import Capability, Supported, Unsupported
from backends.core.codes import (
    Activations,
    NumberFormat,
    PerChannel,
    PerGroup,
    WeightCode,
)
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate
from backends.core.spec import ModuleKind, QuantSpec, Scheme

if TYPE_CHECKING:
    from torch import Tensor, nn

_ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")


@dataclass(frozen=True)
class TorchDynamicOptions:
    """Attributes: engine: torch's kernel library, one of x86, fbgemm, onednn, qnnpack."""

    engine: str = "x86"


def _activations(engine: str) -> Activations:
    """qnnpack ignores the reduced range of the other engines."""
    return Activations(8 if engine == "qnnpack" else 7, symmetric=False)


class TorchDynamic(LayerwiseBackend):
    """Linear layers and the head as int8 or fp16; the token embedding as 8-bit rows."""

    name = "torch_dynamic"
    packages = ("torch",)
    options = TorchDynamicOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.EMBEDDING})
    dtypes = frozenset({"float32"})

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric weights; for the dynamic scheme affine activations per tensor."""
        symmetric = True if spec.symmetric is None else spec.symmetric
        activations = spec.activations
        if spec.scheme is Scheme.DYNAMIC and activations is None:
            activations = _activations(options.engine)
        return replace(spec, symmetric=symmetric, activations=activations, method=spec.method or "rtn")

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Dynamic int8 per tensor or per channel, weight-only fp16; on the CPU."""
        if device != "cpu":
            return Unsupported("torch.ao's quantized kernels run on the CPU only")
        if options.engine not in _ENGINES:
            return Unsupported(f"engine {options.engine!r} is not one of {', '.join(_ENGINES)}")
        if not spec.modules <= self.kinds:
            return Unsupported("torch.ao quantizes convolutions dynamically without doing anything: leave conv out")
        if spec.scheme is Scheme.WEIGHT_ONLY and spec.format is NumberFormat.FP16:
            return ended() or self._half(spec, options)
        if spec.scheme is not Scheme.DYNAMIC:
            return Unsupported("torch.ao dynamic offers the scheme dynamic, and weight_only in the format fp16")
        return ended() or self._int8(spec, options)

    def _half(self, spec: QuantSpec, options: Any) -> Capability:
        if options.engine not in ("x86", "fbgemm"):
            return Unsupported("fp16 weights need the engine x86 or fbgemm")
        if str(spec.granularity) != "per_tensor" or ModuleKind.EMBEDDING in spec.modules or spec.method != "rtn":
            return Unsupported("fp16 weights have no scales: use per_tensor, method rtn, modules linear and head")
        return Supported()

    def _int8(self, spec: QuantSpec, options: Any) -> Capability:
        if spec.format is not NumberFormat.INT or spec.bits != 8 or spec.method != "rtn":
            return Unsupported("torch.ao dynamic has 8-bit integer weights, method rtn")
        if isinstance(spec.granularity, PerGroup):
            return Unsupported("torch.ao has no groups: use per_tensor or per_channel")
        if not spec.symmetric or spec.activations != _activations(options.engine):
            return Unsupported(f"weights are symmetric, activations {_activations(options.engine)}: leave both out")
        if ModuleKind.EMBEDDING in spec.modules and spec.granularity != PerChannel():
            return Unsupported("torch.ao codes embeddings per row only: use per_channel")
        return Supported(note="a result depends on what else is in the batch: activation scales are per call")

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """torch.ao must be there."""
        torch_ao()

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """The torch.ao module of the same weights."""
        from backends.core.packed import engine

        ao, module = torch_ao(), candidate.module
        if candidate.kind is ModuleKind.EMBEDDING:
            module.qconfig = ao.float_qparams_weight_only_qconfig  # type: ignore[assignment]
            embedding: nn.Module = ao.quantized.Embedding.from_float(module)
            return embedding
        per_channel = isinstance(spec.granularity, PerChannel)
        int8 = ao.per_channel_dynamic_qconfig if per_channel else ao.default_dynamic_qconfig
        module.qconfig = int8 if spec.format is NumberFormat.INT else ao.float16_dynamic_qconfig  # type: ignore[assignment]
        with engine(options.engine):
            linear: nn.Module = ao.dynamic.Linear.from_float(module)
        return linear

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """As asked, but embeddings are affine."""
        code, _ = super().effective(module, spec, options)
        if hasattr(module, "num_embeddings"):
            return replace(code, symmetric=False), "torch.ao codes embeddings as affine unsigned rows"
        return code, ""

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight that the packed parameters stand for."""
        weight: Tensor = module.weight()  # type: ignore[operator]
        return weight.dequantize() if weight.is_quantized else weight

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Codes, scales and zero points (or the fp16 weight), and the bias."""
        from backends.core.packed import weight_to_tensors

        tensors = weight_to_tensors(module.weight())  # type: ignore[operator]
        if hasattr(module, "bias") and module.bias() is not None:  # type: ignore[operator]
            tensors["bias"] = module.bias().detach()  # type: ignore[operator]
        return tensors

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        import torch
        from torch import nn

        from backends.core.packed import engine, weight_from_tensors

        ao = torch_ao()
        weight, bias = weight_from_tensors(tensors), tensors.get("bias")
        if isinstance(module, nn.Embedding):
            embedding: nn.Module = ao.quantized.Embedding(*weight.shape)
            embedding.set_weight(weight)  # type: ignore[operator]
            return embedding
        dtype = torch.qint8 if weight.is_quantized else torch.float16
        with engine(options.engine):
            linear: nn.Module = ao.dynamic.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype)
            linear.set_weight_bias(weight, bias)  # type: ignore[operator]
        return linear


BACKEND = TorchDynamic()
