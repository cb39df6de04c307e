"""The vocabulary of quantization: frozen values that name what is asked for, free of torch.

Every field of `QuantSpec` is a column of the results and a factor of the effects analysis, so a
field says one thing only and is spelled one way only. What a single library knows is no field but
an option of that library's adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from backends.core.codes import (
    BLOCK_SIZES,
    FORMAT_BITS,
    Activations,
    E,
    Granularity,
    NumberFormat,
    PerGroup,
    PerTensor,
    WeightCode,
    check_bits,
    member,
    parse_granularity,
)
from backends.core.errors import SpecError, did_you_mean


class Scheme(StrEnum):
    """When activations are quantized."""

    NONE = "none"
    """Nothing is quantized: the model as it is, or cast to another float."""
    WEIGHT_ONLY = "weight_only"
    """Weights alone; activations stay float."""
    DYNAMIC = "dynamic"
    """Activation scales are computed in every call."""
    STATIC = "static"
    """Activation ranges are fixed beforehand by calibration, per tensor."""


class ModuleKind(StrEnum):
    """The parts of a network that can be quantized."""

    LINEAR = "linear"
    """Every `nn.Linear` but the head."""
    HEAD = "head"
    """The output projection (Whisper's and Moonshine's `proj_out`), which is often tied to the embedding."""
    EMBEDDING = "embedding"
    """The token embedding."""
    CONV = "conv"
    """Every `nn.Conv1d`."""
    TIED = "tied"
    """Head and token embedding of a model that ties them, as one tensor: multiplied as the head, looked up by row."""


class Part(StrEnum):
    """The halves of an encoder-decoder model; a model without a decoder is all encoder."""

    ENCODER = "encoder"
    DECODER = "decoder"


class Rest(StrEnum):
    """As what everything is stored that is not quantized; it is computed in the model's dtype all the same."""

    FP32 = "fp32"
    """As it was loaded."""
    FP16 = "fp16"
    BF16 = "bf16"
    PUBLISHED = "published"
    """As the narrowest of fp16, bf16 and fp32 that holds every number of it bit for bit."""


LINEAR = frozenset({ModuleKind.LINEAR})
"""The default set of modules; it leaves a tied head tied."""
ENCODER_AND_DECODER = frozenset(Part)
EVERYTHING = frozenset(ModuleKind) - {ModuleKind.TIED}
"""All kinds, head and embedding by themselves."""


@dataclass(frozen=True)
class Rule:
    """One rule of a recipe: which modules it decides, and what is done to them.

    A module is decided by the first rule of which all selectors that are given hold. What a rule does not set is the
    configuration's own.

    Attributes:
        modules: selector: kinds of modules.
        parts: selector: halves of the model; the tie of head and embedding is in neither. `None` for anywhere.
        match: selector: pattern of the full name, such as `model.encoder.layers.3.*` (`fnmatch`); `None` for any.
        bits, format, granularity, symmetric, method, outputs: settings, as in `QuantSpec`; `None` for not set.
        skip: setting: the modules stay float.
    """

    modules: frozenset[ModuleKind] = field(default=LINEAR)
    parts: frozenset[Part] | None = None
    match: str | None = None
    bits: int | None = None
    format: NumberFormat | None = None
    granularity: Granularity | None = None
    symmetric: bool | None = None
    method: str | None = None
    outputs: bool | None = None
    skip: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "modules", _members(ModuleKind, self.modules, "recipe: modules"))
        if self.parts is not None:
            put(self, "parts", _members(Part, self.parts, "recipe: parts"))
        if self.format is not None:
            put(self, "format", member(NumberFormat, self.format, "recipe: format"))
            if self.bits is None:
                put(self, "bits", FORMAT_BITS.get(self.format))
        if self.granularity is not None:
            put(self, "granularity", parse_granularity(self.granularity))
        for name, kind, what in (
            ("match", str, "a pattern of names"),
            ("method", str, "a name"),
            ("bits", int, "a whole number"),
            ("symmetric", bool, "true or false"),
            ("outputs", bool, "true or false"),
        ):
            value = getattr(self, name)
            if value is not None and type(value) is not kind:
                raise SpecError(f"recipe: {name} is {value!r}; it is {what}")
        if type(self.skip) is not bool:
            raise SpecError(f"recipe: skip is {self.skip!r}; it is true or false")
        if self.skip and self.settings:
            raise SpecError(f"recipe: a rule with skip sets {', '.join(self.settings)} too: leave one of them out")

    @property
    def settings(self) -> dict[str, Any]:
        """What it sets, by the names of `QuantSpec`'s fields."""
        return {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}


SETTINGS = ("bits", "format", "granularity", "symmetric", "method", "outputs")
"""What the rules of a recipe can set, and modules so can differ in."""


@dataclass(frozen=True)
class QuantSpec:
    """One complete request for a quantization; see `resolve` of a backend for how blanks are filled.

    Attributes:
        scheme: when activations are quantized.
        granularity: of the weights' scales.
        bits: of one weight code, 1 to 8 or 16 for `int`; the format's own width otherwise. `None` means that
            the method allots bits to layers itself.
        format: of a weight code.
        symmetric: whether the weight code of zero is zero without a zero point; `None` takes the default.
        activations: how activations are coded, `None` where they stay float.
        method: how codes and scales are chosen, such as `rtn` or `hqq`; `None` takes the default.
        modules: which kinds of modules are quantized.
        parts: which halves of the model are quantized.
        outputs: whether what a quantized layer gives is rounded to a code too, as its input is, with a range fixed by
            calibration; `None` takes the default.
        rest: as what everything that is not quantized is stored.
        recipe: rules that say otherwise for some modules; the fields above are for modules that no rule decides, if
            they are of the kinds and parts named above, and for what a rule does not set.
    """

    scheme: Scheme
    granularity: Granularity
    bits: int | None
    format: NumberFormat = NumberFormat.INT
    symmetric: bool | None = None
    activations: Activations | None = None
    method: str | None = None
    modules: frozenset[ModuleKind] = field(default=LINEAR)
    parts: frozenset[Part] = field(default=ENCODER_AND_DECODER)
    outputs: bool | None = None
    rest: Rest = Rest.FP32
    recipe: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "scheme", member(Scheme, self.scheme, "scheme"))
        put(self, "granularity", parse_granularity(self.granularity))
        put(self, "format", member(NumberFormat, self.format, "format"))
        put(self, "modules", _members(ModuleKind, self.modules, "modules"))
        put(self, "parts", _members(Part, self.parts, "parts"))
        put(self, "rest", member(Rest, self.rest, "rest"))
        put(self, "recipe", tuple(_rule(rule) for rule in self.recipe))
        if isinstance(self.activations, Mapping):
            put(self, "activations", Activations(**self.activations))
        if self.bits is not None:
            check_bits(self.bits, self.format, "bits")
        if self.activations is not None and self.scheme in (Scheme.NONE, Scheme.WEIGHT_ONLY):
            raise SpecError(
                f"scheme {self.scheme} leaves activations float: remove activations, or choose another scheme"
            )
        if not isinstance(self.outputs, bool | None):
            raise SpecError(f"outputs is {self.outputs!r}; it is true or false")
        if self.outputs and self.scheme is not Scheme.STATIC:
            raise SpecError(f"outputs = true needs fixed ranges, but the scheme is {self.scheme}: choose scheme static")
        named = frozenset().union(self.modules, *(rule.modules for rule in self.recipe))
        apart = named & {ModuleKind.HEAD, ModuleKind.EMBEDDING}
        if ModuleKind.TIED in named and apart:
            raise SpecError(f"tied is head and embedding as one tensor: leave out either tied or {' and '.join(apart)}")

    @property
    def weight_code(self) -> WeightCode | None:
        """What is asked of every chosen module; `None` where the method allots bits itself."""
        if self.bits is None:
            return None
        return WeightCode(self.bits, self.format, self.granularity, self.symmetric)


def _rule(value: Rule | Mapping[str, Any]) -> Rule:
    if isinstance(value, Rule):
        return value
    if not isinstance(value, Mapping):
        raise SpecError(f'recipe: {value!r} is no rule, which is a table such as {{parts = ["decoder"], bits = 4}}')
    known = [one.name for one in fields(Rule)]
    for key in value:
        if key not in known:
            raise SpecError(f"recipe: {key!r} is not one of {', '.join(known)}{did_you_mean(key, known)}")
    return Rule(**value)


def _members(kind: type[E], values: Iterable[str], key: str) -> frozenset[E]:
    chosen = frozenset(member(kind, value, key) for value in ([values] if isinstance(values, str) else values))
    if not chosen:
        raise SpecError(f"{key} is empty; choose among {', '.join(kind)}")
    return chosen


def block_refused(spec: QuantSpec) -> str | None:
    """Why a resolved spec contradicts its block format, `None` where it does not, or has another format."""
    if spec.format not in BLOCK_SIZES:
        return None
    size, bits = BLOCK_SIZES[spec.format], FORMAT_BITS[spec.format]
    if spec.bits is None:
        return f"{spec.format} has {bits} bits in every layer: set bits = {bits}"
    if spec.granularity != PerGroup(size):
        return f"{spec.format} has one scale for {size} weights: use per_group:{size}"
    return None if spec.symmetric else f"{spec.format} has no zero points: leave symmetric out"


def completed(spec: QuantSpec, *, symmetric: bool, activations: Activations | None, method: str = "rtn") -> QuantSpec:
    """`spec` with an adapter's defaults where it leaves something open.

    Args:
        symmetric: of weight codes.
        activations: of the scheme; `None` where the adapter has none for it, and what is asked stays as it is.
        method: how codes are chosen.
    """
    chosen = spec.activations or activations
    if chosen is not None and activations is not None and chosen.symmetric is None:
        chosen = replace(chosen, symmetric=activations.symmetric)
    weights = symmetric if spec.symmetric is None else spec.symmetric
    return replace(spec, symmetric=weights, activations=chosen, method=spec.method or method)


FULL_PRECISION = QuantSpec(Scheme.NONE, PerTensor(), 32, NumberFormat.FP32, method="none", outputs=False)
"""The baseline: the model in the precision in which it was loaded, fp32 unless the experiment says otherwise."""
