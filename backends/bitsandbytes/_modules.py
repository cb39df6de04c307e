"""bitsandbytes' linear layers, each pinned to one computation."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

# At import it recommends a package that fetches kernels from the network, and LLM.int8() announces
# in every call that it casts inputs to fp16: neither is for the user to mend.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise
from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit


class PinnedInt8(Linear8bitLt):  # type: ignore[misc]
    """`Linear8bitLt` that computes the same thing whatever the model's training flag.

    Args:
        weight_only: dequantize the weight and multiply in float; LLM.int8() otherwise.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool, threshold: float, weight_only: bool) -> None:
        self.weight_only = weight_only
        super().__init__(in_features, out_features, bias, has_fp16_weights=False, threshold=threshold, device="meta")
        self.train()

    def train(self, mode: bool = True) -> PinnedInt8:
        """Keep the flag that selects the computation."""
        super().train(self.weight_only)
        return self


def make_int8(weight: Tensor, bias: Tensor | None, threshold: float, weight_only: bool) -> nn.Module:
    """Quantize `weight` (out x in) on its own device; it is rounded to fp16 first, as the library does."""
    out_features, in_features = weight.shape
    linear = PinnedInt8(in_features, out_features, bias is not None, threshold, weight_only)
    linear.weight = Int8Params(weight.cpu().clone(), requires_grad=False).to(weight.device)
    linear.bias = _parameter(bias)
    return linear


def restore_int8(module: nn.Module, tensors: dict[str, Tensor], threshold: float, weight_only: bool) -> nn.Module:
    """The inverse of `tensors_of` for int8."""
    out_features, in_features = module.weight.shape  # type: ignore[union-attr, misc]
    linear = PinnedInt8(in_features, out_features, "bias" in tensors, threshold, weight_only)  # type: ignore[arg-type]
    codes, scale = tensors["codes"], tensors["scale"]
    linear.weight = Int8Params(codes, requires_grad=False, CB=codes, SCB=scale)
    linear.bias = _parameter(tensors.get("bias"))
    return linear


def make_four_bit(weight: Tensor, bias: Tensor | None, code: str, block: int, double_quant: bool) -> nn.Module:
    """Quantize `weight` (out x in) to `nf4` or `fp4` on its own device."""
    linear = _empty_four_bit(weight.shape[1], weight.shape[0], bias, code)
    linear.weight = Params4bit(
        weight.cpu().clone(), requires_grad=False, blocksize=block, compress_statistics=double_quant, quant_type=code
    ).to(weight.device)
    return linear


def restore_four_bit(module: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """The inverse of `tensors_of` for nf4 and fp4."""
    out_features, in_features = module.weight.shape  # type: ignore[union-attr, misc]
    state = {key: tensor for key, tensor in tensors.items() if key not in ("codes", "bias")}
    weight = Params4bit.from_prequantized(tensors["codes"], state, device=tensors["codes"].device)
    linear = _empty_four_bit(in_features, out_features, tensors.get("bias"), weight.quant_type)  # type: ignore[arg-type]
    linear.weight = weight
    return linear


def _empty_four_bit(in_features: int, out_features: int, bias: Tensor | None, code: str) -> Any:
    linear = Linear4bit(in_features, out_features, bias is not None, quant_type=code, device="meta")
    linear.bias = _parameter(bias)
    linear.support_avx512bf16_for_cpu = False
    return linear.eval()


def _parameter(bias: Tensor | None) -> nn.Parameter | None:
    return None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All tensors of one quantized layer, the same before and after a forward."""
    weight: Any = module.weight
    bias: Any = module.bias
    tensors = {} if bias is None else {"bias": bias.detach()}
    if isinstance(module, PinnedInt8):
        scale = weight.SCB if weight.SCB is not None else module.state.SCB
        return {"codes": weight.data, "scale": scale, **tensors}
    return {"codes": weight.data, **weight.quant_state.as_dict(packed=True), **tensors}


def dequantized(module: nn.Module) -> Tensor:
    """The float weight: codes times scale / 127, or looked up and scaled by block."""
    weight: Any = module.weight
    if isinstance(module, PinnedInt8):
        return _eight_bits(**tensors_of(module))
    restored: Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return restored.to(torch.float32)


def _eight_bits(codes: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    return codes.float() * (scale.float().unsqueeze(1) / 127.0)


def dequantized_rows(module: nn.Module, rows: Tensor) -> Tensor:
    """Some rows of `dequantized`, (n, columns), for (n,) indices; other rows are not unpacked.

    The blocks of 4-bit codes divide a row, which `problems` of the adapter sees to.
    """
    weight: Any = module.weight
    if isinstance(module, PinnedInt8):
        tensors = tensors_of(module)
        return _eight_bits(tensors["codes"][rows], tensors["scale"][rows])
    state = weight.quant_state
    height, width = state.shape
    scales = state.absmax
    if state.nested:
        scales = dequantize_blockwise(scales, state.state2) + state.offset
    own = QuantState(
        absmax=scales.reshape(height, -1)[rows].reshape(-1).contiguous(),
        shape=torch.Size((len(rows), width)),
        code=state.code,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        dtype=state.dtype,
    )
    codes = weight.data.reshape(height, -1)[rows].reshape(-1, 1).contiguous()
    restored: Tensor = dequantize_4bit(codes, own)
    return restored.to(torch.float32)
