"""int8 weights with one scale a row, kept as int8 and widened in every call: a small backend that is whole."""

from dataclasses import replace

from backends import Scheme, Supported, Unsupported
from backends.extending import LayerwiseBackend


class Rowwise(LayerwiseBackend):
    """What differs from other backends; finding layers, reports, saving and loading are inherited."""

    name = "rowwise"
    packages = ("asrquant-example",)

    def resolve(self, spec, options):
        return replace(spec, symmetric=True, method=spec.method or "rtn")

    def capability(self, spec, options, device):
        asked = (spec.scheme, str(spec.granularity), spec.bits, spec.format, spec.symmetric, spec.method)
        can = asked == (Scheme.WEIGHT_ONLY, "per_channel", 8, "int", True, "rtn")
        return (
            Supported() if can else Unsupported("rowwise does symmetric int8 weights per channel, rounded to nearest")
        )

    def convert(self, candidate, spec, options):
        from asrquant_example._modules import RowwiseLinear

        return RowwiseLinear.of(candidate.module)

    def dequantize(self, module):
        return module.codes.float() * module.scale

    def pack(self, module):
        return {name: tensor.detach() for name, tensor in module.named_buffers()}

    def unpack(self, module, tensors, spec, options):
        from asrquant_example._modules import RowwiseLinear

        return RowwiseLinear(**tensors)


BACKEND = Rowwise()
