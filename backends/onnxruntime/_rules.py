"""What the engine has kernels for; free of torch."""

from __future__ import annotations

from backends.core.codes import Activations, NumberFormat, PerGroup, WeightCode
from backends.core.spec import FULL_PRECISION, ModuleKind, QuantSpec, Scheme

LIBRARY = "rtn"
"""The method that is the library's own rounding; every other one is one of `ptq`."""
_KINDS = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.TIED})
_GROUPS = (16, 32, 64, 128, 256)
_IN_BLOCKS = Activations(8, NumberFormat.INT, "per_token", True)
_IN_CALLS = Activations(8, NumberFormat.INT, "per_tensor", False)


def refused(spec: QuantSpec, has_options: bool) -> str | None:
    """Why a resolved spec cannot be done, `None` where it can, by this library or by a method of `ptq`.

    Args:
        spec: resolved, without a recipe.
        has_options: whether an option differs from its default.
    """
    if has_options and (spec.scheme is Scheme.NONE or spec.method == LIBRARY):
        return "options are those of ptq's methods, and none of these is asked for: leave them out"
    if spec.scheme is Scheme.NONE:
        return None if spec == FULL_PRECISION else "floats are fp32 here: use the backend cast for fp16 and bf16"
    if not spec.modules <= _KINDS:
        return "this adapter quantizes linear layers, the head and the tie: leave embedding and conv out"
    if spec.format is not NumberFormat.INT or spec.bits is None:
        return "ONNX Runtime multiplies by integers of one width: format int, with bits"
    if isinstance(spec.granularity, PerGroup) and spec.scheme is not Scheme.STATIC:
        return _refused_in_groups(spec)
    return _refused_whole(spec)


def _refused_in_groups(spec: QuantSpec) -> str | None:
    code = spec.weight_code
    assert code is not None, "a width is given"
    if spec.activations not in (None, _IN_BLOCKS):
        return f"inputs of weights in groups are rounded as {_IN_BLOCKS}: leave activations out"
    return blocks_refused(code)


def blocks_refused(code: WeightCode | None) -> str | None:
    """Why `MatMulNBits` does not multiply by such codes, `None` where it does."""
    if code is None or code.format is not NumberFormat.INT:
        return "MatMulNBits multiplies by integers alone"
    if code.bits == 2:
        return (
            "MatMulNBits multiplies by 2-bit codes 40 times slower than by floats (2 908 us against 71 for one row "
            "by 512 x 2048): use 4 bits"
        )
    if code.bits not in (4, 8):
        return f"MatMulNBits has no codes of {code.bits} bits: use 4 or 8"
    if not isinstance(code.granularity, PerGroup) or code.granularity.group_size not in _GROUPS:
        return f"MatMulNBits has groups of {', '.join(map(str, _GROUPS))}: use per_group"
    return None


def _refused_whole(spec: QuantSpec) -> str | None:
    if spec.scheme is Scheme.WEIGHT_ONLY:
        return f"weights alone are quantized in groups of {', '.join(map(str, _GROUPS))}: use per_group"
    if isinstance(spec.granularity, PerGroup):
        return "static weights are per_tensor or per_channel"
    if spec.method != LIBRARY:
        return f"the method {spec.method} is for weights in groups: use per_group"
    if spec.bits != 8 and not (spec.bits == 7 and spec.symmetric):
        return "weights per tensor or channel have 8 bits, or 7 where they are symmetric"
    if spec.activations != _IN_CALLS:
        return f"inputs of weights per tensor or channel are {_IN_CALLS}: leave activations out"
    return None


def note_of(spec: QuantSpec) -> str:
    """What a user should know before."""
    if spec.scheme is Scheme.DYNAMIC and isinstance(spec.granularity, PerGroup):
        return "inputs have a scale for every group within a token"
    if spec.scheme is Scheme.DYNAMIC:
        return "a result depends on what else is in the batch: activation scales are per call"
    if spec.scheme is Scheme.WEIGHT_ONLY and spec.bits == 8:
        return "slow: 17 times the time of floats for one row by 512 x 2048"
    return ""
