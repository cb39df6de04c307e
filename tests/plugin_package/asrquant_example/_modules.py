"""The layer of `rowwise`; apart, so that the adapter can be imported without torch."""

from torch import nn
from torch.nn import functional


class RowwiseLinear(nn.Module):
    """A linear layer; `codes` are int8, `scale` and `bias` floats."""

    def __init__(self, codes, scale, bias=None):
        super().__init__()
        for name, tensor in (("codes", codes), ("scale", scale), ("bias", bias)):
            self.register_buffer(name, tensor)

    @classmethod
    def of(cls, linear):
        weight = linear.weight.detach()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        codes = (weight / scale).round().char()
        return cls(codes, scale, None if linear.bias is None else linear.bias.detach())

    def forward(self, inputs):
        return functional.linear(inputs, self.codes.to(inputs.dtype) * self.scale, self.bias)
