"""Which modules of a model a spec selects, and what is asked of each."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from backends.core.codes import PerGroup
from backends.core.errors import ModelError, did_you_mean
from backends.core.recipes import decide, kinds_of, told
from backends.core.report import LayerReport
from backends.core.spec import ModuleKind, Part, QuantSpec, Rule

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Candidate:
    """A module that could be quantized, and where it stands.

    Attributes:
        name: its full name.
        kind: what it is.
        part: where it stands; `None` for the tie of head and embedding, which is in both halves or in neither.
        module: itself; of the tie the head.
        lookup: of the tie, the full name of the embedding; empty otherwise.
    """

    name: str
    kind: ModuleKind
    part: Part | None
    module: nn.Module
    lookup: str = ""

    @property
    def weight(self) -> Tensor:
        """Its float weight, first dimension the output channels (of an embedding, the tokens)."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        return weight.detach()


def candidates(model: nn.Module) -> list[Candidate]:
    """Every linear layer, head, token embedding and one-dimensional convolution of `model`, in its order.

    The head and the embedding are those that a transformers model names itself
    (`get_output_embeddings`, `get_input_embeddings`). Without `get_encoder` everything is encoder.
    """
    from torch import nn

    head, embedding = _answer(model, "get_output_embeddings"), _answer(model, "get_input_embeddings")
    inside = _inside_encoder(model)
    found = []
    for name, module in model.named_modules():
        kind = _kind(module, head, embedding, nn)
        if kind is not None:
            found.append(Candidate(name, kind, Part.ENCODER if id(module) in inside else Part.DECODER, module))
    return found


def _inside_encoder(model: nn.Module) -> set[int]:
    """Identities of the encoder's modules."""
    encoder = _answer(model, "get_encoder")
    return {id(module) for module in (model if encoder is None else encoder).modules()}


def part_of(model: nn.Module, name: str) -> Part:
    """The half in which a module stands."""
    return Part.ENCODER if id(model.get_submodule(name)) in _inside_encoder(model) else Part.DECODER


def candidates_for(model: nn.Module, spec: QuantSpec) -> list[Candidate]:
    """`candidates`, head and embedding being one where `spec` names the tie.

    Raises:
        ModelError: it does, and the model does not tie them.
    """
    found = candidates(model)
    if ModuleKind.TIED not in kinds_of(spec):
        return found
    head = next((c for c in found if c.kind is ModuleKind.HEAD), None)
    embedding = next((c for c in found if c.kind is ModuleKind.EMBEDDING), None)
    if head is None or embedding is None or head.module.weight is not embedding.module.weight:
        raise ModelError("the model does not tie its head to its token embedding: name head and embedding, not tied")
    if getattr(head.module, "bias", None) is not None or getattr(embedding.module, "max_norm", None) is not None:
        raise ModelError("the tie has a bias or a max_norm, which one tensor cannot have: leave tied out")
    tie = Candidate(head.name, ModuleKind.TIED, None, head.module, embedding.name)
    return [tie if c is head else c for c in found if c is not embedding]


@dataclass(frozen=True)
class Target:
    """A candidate that is to be quantized.

    Attributes:
        candidate: which.
        spec: what is asked of it, without a recipe.
        rule: of the recipe that decided it; `None` for none.
    """

    candidate: Candidate
    spec: QuantSpec
    rule: Rule | None = None


def _kind(module: nn.Module, head: Any, embedding: Any, nn: Any) -> ModuleKind | None:
    if module is head and isinstance(module, nn.Linear):
        return ModuleKind.HEAD
    if module is embedding and isinstance(module, nn.Embedding):
        return ModuleKind.EMBEDDING
    if isinstance(module, nn.Linear):
        return ModuleKind.LINEAR
    return ModuleKind.CONV if isinstance(module, nn.Conv1d) else None


def _answer(model: nn.Module, method: str) -> Any:
    """What a transformers model says of itself, or `None` for a model that does not know the question."""
    try:
        return getattr(model, method)()
    except (AttributeError, NotImplementedError):
        return None


def chosen(model: nn.Module, spec: QuantSpec) -> list[Target]:
    """The candidates that `spec` selects by its recipe, `modules` and `parts`.

    Raises:
        ModelError: there is none, the model itself is one, or a rule decides none.
    """
    everything = candidates_for(model, spec)
    decisions = [(c, *decide(spec, c.name, c.kind, c.part)) for c in everything]
    idle = [rule for rule in spec.recipe if not any(rule is by for _, by, _ in decisions)]
    if idle:
        raise ModelError(f"the rule {told(idle[0])} of the recipe decides no module{_why_idle(idle[0], everything)}")
    selected = [Target(c, own, rule) for c, rule, own in decisions if own is not None]
    if any(not target.candidate.name for target in selected):
        raise ModelError("the model is a single layer, which cannot be replaced in place: put it into an nn.Sequential")
    if not selected:
        kinds, parts = ", ".join(sorted(spec.modules)), ", ".join(sorted(spec.parts))
        raise ModelError(f"the model has no module of kind {kinds} in its {parts}: nothing would be quantized")
    return selected


def _why_idle(rule: Rule, everything: list[Candidate]) -> str:
    """What stands in the way of a rule."""
    named = [c.name for c in everything if c.kind in rule.modules and (rule.parts is None or c.part in rule.parts)]
    if not named:
        return f": the model has no {', '.join(sorted(rule.modules))} there"
    if rule.match is not None and not any(fnmatchcase(name, rule.match) for name in named):
        others = [c.name for c in everything if fnmatchcase(c.name, rule.match)]
        if others:
            return f": {others[0]} is of another kind or part, so name its modules in the rule"
        return did_you_mean(rule.match, named) or f"; there are {', '.join(named[:_NAMED])} and so on"
    return ": rules before it decide all of its modules"


_NAMED = 4
"""Modules that a sentence names."""


def group_divides(targets: list[Candidate], spec: QuantSpec, mend: str = "") -> None:
    """Raise `ModelError` naming modules whose row length the group size of `spec` does not divide."""
    if not isinstance(spec.granularity, PerGroup):
        return
    size = spec.granularity.group_size
    offenders = {c.name: c.weight[0].numel() for c in targets if c.weight[0].numel() % size}
    if offenders:
        named = ", ".join(f"{name} ({width})" for name, width in list(offenders.items())[:_NAMED])
        more = f" and {len(offenders) - _NAMED} more" if len(offenders) > _NAMED else ""
        raise ModelError(f"group size {size} does not divide the width of {named}{more}{mend}")


def check_not_shared(model: nn.Module, targets: list[Candidate]) -> None:
    """A module that stands in two places would be replaced in one of them only."""
    places: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(name)
    shared = [" = ".join(places[id(c.module)]) for c in targets if len(places[id(c.module)]) > 1]
    if shared:
        raise ModelError(f"modules that stand in two places of the model cannot be replaced: {', '.join(shared)}")


def unrequested(candidate: Candidate, spec: QuantSpec, stored_bits: int | None = None) -> LayerReport:
    """The report of a candidate that `spec` does not select; its weight takes `stored_bits`, or its dtype's."""
    rule, _ = decide(spec, candidate.name, candidate.kind, candidate.part)
    field = "modules" if candidate.kind not in spec.modules else "parts"
    reason = f"not requested: {field} = {', '.join(sorted(getattr(spec, field)))}"
    if rule is not None:
        reason = f"left out by the rule {told(rule)}"
    weight = candidate.weight
    bits = weight.numel() * weight.element_size() * 8 if stored_bits is None else stored_bits
    return LayerReport(candidate.name, candidate.kind, tuple(weight.shape), None, None, reason, bits, 0.0)
