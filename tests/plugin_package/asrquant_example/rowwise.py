"""int8 weights with one scale a row, kept as int8 and widened in every call: a small backend that is whole."""

from dataclasses import replace

from backends import Scheme, Supported, Unsupported
from backends.extending import LayerwiseBackend

CAN = (Scheme.WEIGHT_ONLY, "per_channel", 8, "int", True, "rtn")


class Rowwise(LayerwiseBackend):
    name, packages = "rowwise", ("asrquant-example",)

    def resolve(self, spec, options):
        return replace(spec, symmetric=spec.symmetric is not False, method=spec.method or "rtn")

    def capability(self, spec, options, device):
        asked = (spec.scheme, str(spec.granularity), spec.bits, spec.format, spec.symmetric, spec.method)
        return Supported() if asked == CAN else Unsupported("rowwise rounds to symmetric int8 weights per channel")

    def convert(self, candidate, spec, options):
        from asrquant_example._modules import RowwiseLinear

        return RowwiseLinear.of(candidate.module)

    def dequantize(self, module):
        return module.codes.float() * module.scale

    def pack(self, module):
        return dict(module.named_buffers())

    def unpack(self, module, tensors, spec, options):
        from asrquant_example._modules import RowwiseLinear

        return RowwiseLinear(**tensors)


BACKEND = Rowwise()
