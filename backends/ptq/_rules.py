"""Which options go with which method and spec; free of torch.

An option that would be ignored is refused: a row of results would claim it.
"""

from __future__ import annotations

from dataclasses import fields
from math import inf

from backends.core.codes import BLOCK_SIZES, NumberFormat, PerTensor
from backends.core.recipes import plain_specs
from backends.core.spec import ModuleKind, QuantSpec, Scheme, block_refused
from backends.ptq._options import PtqOptions

BLOCKWISE = frozenset({"omniquant", "tesseraq"})
"""Methods that take the layers of a block together."""
_BY_ANY = frozenset({"clip", "smooth", "rotate", "low_rank", "target_bits", "target_size_mb", "allot_by"})
_SWEEP = frozenset({"damping", "act_order", "block_size"})
_OWN = {
    "awq": frozenset({"search_steps"}),
    "gptaq": _SWEEP,
    "gptq": _SWEEP,
    "omniquant": frozenset({"epochs", "learning_rate"}),
    "quarot": frozenset[str](),
    "rtn": frozenset[str](),
    "smoothquant": frozenset[str](),
    "spqr": _SWEEP | {"outlier_threshold", "scale_bits"},
    "tesseraq": frozenset({"epochs", "learning_rate"}),
}
_INTEGERS_ONLY = {
    "omniquant": "learns scales by their gradients, and a scale of one byte has none",
    "spqr": "codes scales in a few bits, and here they are bytes already",
    "tesseraq": "chooses between neighbouring integers",
}
"""Methods that do not go with block formats, and why."""
_RANGES = {
    "smooth": (0, 1),
    "low_rank": (0, inf),
    "damping": (0, inf),
    "block_size": (1, inf),
    "search_steps": (1, inf),
    "epochs": (0, inf),
    "learning_rate": (0, inf),
    "outlier_threshold": (0, inf),
    "scale_bits": (2, 16),
    "target_bits": (0, inf),
    "target_size_mb": (0, inf),
}


_CRITERIA = ("likelihood", "states")


def refused_code(spec: QuantSpec) -> str | None:
    """Why the weight or activation code cannot be had, `None` where it can."""
    return block_refused(spec) or _refused_weights(spec) or _refused_activations(spec)


def _refused_weights(spec: QuantSpec) -> str | None:
    if spec.format in BLOCK_SIZES:
        why = _INTEGERS_ONLY.get(str(spec.method))
        return None if why is None else f"{spec.method} {why}: use another method for {spec.format}"
    if spec.format is not NumberFormat.INT or spec.bits not in (None, *range(2, 9)):
        return f"weights are integers of 2 to 8 bits, or {', '.join(BLOCK_SIZES)}"
    if spec.method == "spqr" and isinstance(spec.granularity, PerTensor):
        return "spqr quantizes the scales of rows and groups: a single scale per tensor leaves it nothing to do"
    return None


def _refused_activations(spec: QuantSpec) -> str | None:
    code = spec.activations
    if code is not None and (code.format is not NumberFormat.INT or code.bits not in range(4, 9)):
        return "activations are integers of 4 to 8 bits"
    if code is not None and spec.scheme is Scheme.STATIC and code.granularity != "per_tensor":
        return "static activation ranges are per tensor"
    return None


def refused_recipe(spec: QuantSpec) -> str | None:
    """Why the rules of a resolved spec do not go together, `None` where they do."""
    if spec.recipe and spec.bits is None:
        return "a budget allots bits to layers itself: leave recipe out, or set bits"
    apart = any(rule.match and rule.settings and ModuleKind.LINEAR in rule.modules for rule in spec.recipe)
    together = sorted({str(own.method) for own in plain_specs(spec)} & BLOCKWISE)
    if apart and together:
        return f"{together[0]} takes the layers of a block together, at the same code: leave match out of the recipe"
    return None


def refused_options(spec: QuantSpec, options: PtqOptions) -> str | None:
    """Why the options do not go with a resolved spec, `None` where they do."""
    for rule in (_out_of_range, _unused, _clashing, _without_target):
        reason = rule(spec, options)
        if reason is not None:
            return reason
    return None


def _out_of_range(spec: QuantSpec, options: PtqOptions) -> str | None:
    if options.allot_by not in _CRITERIA:
        return f"option allot_by is {options.allot_by!r}; it must be {' or '.join(_CRITERIA)}"
    for name, (least, most) in _RANGES.items():
        value = getattr(options, name)
        if not least <= value <= most:
            bounds = f"{least} or more" if most == inf else f"from {least} to {most}"
            return f"option {name} is {value}; it must be {bounds}"
    return None


def _unused(spec: QuantSpec, options: PtqOptions) -> str | None:
    own = _OWN.get(str(spec.method))
    if own is None:
        return None
    for field in fields(options):
        if field.name not in own | _BY_ANY and getattr(options, field.name) != field.default:
            return f"option {field.name} is not used by method {spec.method}: leave it out"
    return None


def _clashing(spec: QuantSpec, options: PtqOptions) -> str | None:
    """Options of any method that this one has built in, or that come in the wrong order."""
    if spec.method == "quarot" and options.rotate:
        return "quarot rotates already: leave rotate out"
    if spec.method in BLOCKWISE | {"awq"} and options.clip:
        return f"{spec.method} searches the range already: leave clip out"
    if spec.method == "awq" and options.rotate:
        return "awq scales input channels, and a rotation before it has mixed them: leave rotate out"
    if spec.method == "smoothquant" and options.rotate and not options.smooth:
        return "smoothquant's own scales would follow the rotation: set smooth, whose scales come before it"
    return None


def _without_target(spec: QuantSpec, options: PtqOptions) -> str | None:
    """A budget is what replaces bits."""
    targets = (options.target_bits > 0) + (options.target_size_mb > 0)
    if spec.bits is not None:
        asked = "a target wants" if targets else "allot_by wants" if options.allot_by != _CRITERIA[0] else ""
        return f"bits are {spec.bits} for every layer: {asked} bits left out" if asked else None
    if targets != 1:
        return "without bits, set exactly one of target_bits and target_size_mb"
    if spec.method in BLOCKWISE:
        return f"{spec.method} takes the layers of a block together, at the same bits: set bits"
    if spec.method == "spqr":
        return "how many outliers spqr keeps is known only afterwards, so that no budget can be met: set bits"
    return None
