"""torch.ao's static quantization in eager mode: int8 weights, activation ranges fixed by calibration.

Every chosen module gets its own quantize and dequantize stubs, so everything between modules stays
float. With `outputs`, torch.ao's default, a module's output is rounded to 8 bits with one scale; without,
its kernel gives the sums as floats. `reduce_range` narrows activations to 7 bits; it is needed on processors
without VNNI, where sums of two 8-bit products saturate in all kernel libraries but qnnpack: that is tried out, and
refused. Tried with torch 2.13; a torch without torch.ao.quantization is answered by pointing to the backend torchao.
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
)
from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate
from backends.core.spec import ModuleKind, QuantSpec, Scheme

if TYPE_CHECKING:
    from torch import Tensor, nn

_OBSERVERS = ("histogram", "minmax")
_ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
_FLOAT_OUTPUT_ENGINES = ("x86", "fbgemm")


@dataclass(frozen=True)
class TorchStaticOptions:
    """How activation ranges are found and computed with.

    Attributes:
        observer: `histogram` (minimises the quantization error over a histogram) or `minmax`.
        reduce_range: 7-bit activations.
        engine: torch's kernel library, one of x86, fbgemm, onednn, qnnpack.
    """

    observer: str = "histogram"
    reduce_range: bool = False
    engine: str = "x86"


class TorchStatic(LayerwiseBackend):
    """Linear layers, the head and convolutions as static int8."""

    name = "torch_static"
    packages = ("torch",)
    options = TorchStaticOptions
    kinds = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.CONV})
    dtypes = frozenset({"float32"})
    codes_outputs = True

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Symmetric weights, affine activations and outputs per tensor of 8 bits, or 7 with `reduce_range`."""
        symmetric = True if spec.symmetric is None else spec.symmetric
        activations, outputs = spec.activations, spec.outputs
        if spec.scheme is Scheme.STATIC and activations is None:
            activations = Activations(7 if options.reduce_range else 8, symmetric=False)
        if spec.scheme is Scheme.STATIC and outputs is None:
            outputs = True
        method = spec.method or "rtn"
        return replace(spec, symmetric=symmetric, activations=activations, method=method, outputs=outputs)

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Static int8 per tensor or per channel, on the CPU."""
        if device != "cpu":
            return Unsupported("torch.ao's quantized kernels run on the CPU only")
        if options.observer not in _OBSERVERS or options.engine not in _ENGINES:
            return Unsupported(f"observer is one of {', '.join(_OBSERVERS)}, engine one of {', '.join(_ENGINES)}")
        if spec.scheme is not Scheme.STATIC:
            return Unsupported("torch.ao static offers the scheme static only")
        if not spec.modules <= self.kinds:
            return Unsupported("torch.ao static does not quantize embeddings: leave embedding out")
        if ModuleKind.CONV in spec.modules and options.engine == "qnnpack":
            return Unsupported(
                "torch does not give back the weights of a convolution that qnnpack packed: leave conv out"
            )
        if spec.format is not NumberFormat.INT or spec.bits != 8 or spec.method != "rtn":
            return Unsupported("torch.ao static has 8-bit integer weights, method rtn")
        if isinstance(spec.granularity, PerGroup):
            return Unsupported("torch.ao has no groups: use per_tensor or per_channel")
        if not spec.symmetric or spec.activations != Activations(7 if options.reduce_range else 8, symmetric=False):
            return Unsupported("weights are symmetric, activations affine of 8 bits, or 7 with the option reduce_range")
        return ended() or (Supported() if spec.outputs else self._float_outputs(spec, options))

    @staticmethod
    def _float_outputs(spec: QuantSpec, options: Any) -> Capability:
        if ModuleKind.CONV in spec.modules:
            return Unsupported("torch has no int8 convolution with float outputs: leave conv out, or outputs unset")
        if options.engine not in _FLOAT_OUTPUT_ENGINES:
            engines = " or ".join(_FLOAT_OUTPUT_ENGINES)
            return Unsupported(f"torch has no kernel with float outputs for {options.engine}: use the engine {engines}")
        return Supported()

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """torch.ao must be there, and this processor's products of these codes must be exact."""
        torch_ao()
        from backends._torch_ao._static import refuse_saturating_products

        refuse_saturating_products(options.reduce_range, options.engine)

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """The float module between observing stubs, or behind one observer where outputs stay float."""
        from backends._torch_ao._static import FloatOutputs, StubbedModule, configuration

        per_channel = isinstance(spec.granularity, PerChannel)
        qconfig = configuration(options.observer, options.reduce_range, per_channel)
        if not spec.outputs:
            candidate.module.qconfig = qconfig  # type: ignore[assignment]
            return FloatOutputs(candidate.module, options.engine, qconfig.activation())
        stubbed = StubbedModule(candidate.module, options.engine)
        for part in (stubbed.quant, stubbed.module, stubbed):
            part.qconfig = qconfig  # type: ignore[assignment]
        torch_ao().prepare(stubbed, inplace=True)
        return stubbed

    def freeze(self, module: nn.Module) -> nn.Module:
        """Turn observed ranges into scales and pack the weight."""
        from backends.core.packed import engine

        with engine(module.engine):  # type: ignore[arg-type]
            module.freeze()  # type: ignore[operator]
        return module

    def dequantize(self, module: nn.Module) -> Tensor:
        """The weight that the packed parameters stand for."""
        inner: Any = module.module
        weight: Tensor = inner.weight().dequantize()
        return weight

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Codes, scales and zero points of weight, input and, where that is rounded, output, and the bias."""
        import torch

        from backends.core.packed import weight_to_tensors

        inner: Any = module.module
        stub: Any = module.quant
        tensors = weight_to_tensors(inner.weight())
        tensors["input_scale"], tensors["input_zero_point"] = stub.scale.clone(), stub.zero_point.clone()
        if module.codes_outputs:
            tensors["output_scale"] = torch.tensor(inner.scale, dtype=torch.float64)
            tensors["output_zero_point"] = torch.tensor(inner.zero_point)
        if inner.bias() is not None:
            tensors["bias"] = inner.bias().detach()
        return tensors

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """The inverse of `pack`."""
        torch_ao()
        from backends._torch_ao import _static
        from backends._torch_ao._static import FloatOutputs, StubbedModule, quantized_counterpart, quantized_stub
        from backends.core.packed import engine, weight_from_tensors

        _static.refuse_saturating_products(options.reduce_range, options.engine)
        with engine(options.engine):
            inner = quantized_counterpart(module, bool(spec.outputs))
            inner.set_weight_bias(weight_from_tensors(tensors), tensors.get("bias"))
        stub = quantized_stub(tensors["input_scale"], tensors["input_zero_point"])
        if not spec.outputs:
            return FloatOutputs(inner, options.engine, stub)
        inner.scale, inner.zero_point = float(tensors["output_scale"]), int(tensors["output_zero_point"])
        stubbed = StubbedModule(module, options.engine)
        stubbed.module, stubbed.quant = inner, stub
        stubbed.dequant = StubbedModule.float_exit()
        return stubbed


BACKEND = TorchStatic()
