"""Recipes: which rule decides a module, and what its modules are asked, as a plain spec without a recipe.

A plain spec is what adapters are given, one for every rule. Free of torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from backends.core.errors import SpecError
from backends.core.spec import ENCODER_AND_DECODER, LINEAR, SETTINGS, ModuleKind, Part, QuantSpec, Rule


def plain(spec: QuantSpec) -> QuantSpec:
    """What is asked of the modules that no rule decides."""
    return replace(spec, recipe=())


def own_spec(spec: QuantSpec, rule: Rule) -> QuantSpec | None:
    """What is asked of the modules that `rule` decides; `None` where they stay float.

    Raises:
        SpecError: the rule's settings and the configuration's contradict each other.
    """
    if rule.skip:
        return None
    try:
        return replace(spec, recipe=(), modules=rule.modules, parts=rule.parts or ENCODER_AND_DECODER, **rule.settings)
    except SpecError as error:
        raise SpecError(f"recipe: the rule {told(rule)}: {error}") from None


def plain_specs(spec: QuantSpec) -> list[QuantSpec]:
    """Every plain spec that `spec` consists of, its own first, each once."""
    own = (own_spec(spec, rule) for rule in spec.recipe)
    return list(dict.fromkeys([plain(spec), *(one for one in own if one is not None)]))


def kinds_of(spec: QuantSpec) -> frozenset[ModuleKind]:
    """The kinds that `spec` names anywhere."""
    return frozenset[ModuleKind]().union(spec.modules, *(rule.modules for rule in spec.recipe))


def decide(spec: QuantSpec, name: str, kind: ModuleKind, part: Part | None) -> tuple[Rule | None, QuantSpec | None]:
    """The rule that decides a module, and what is asked of it.

    Args:
        spec: with its recipe.
        name: the module's full name.
        kind: what it is.
        part: where it stands; `None` for the tie.

    Returns:
        `None` for the rule where the configuration's own fields decide, and for the plain spec of what stays float.
    """
    for rule in spec.recipe:
        somewhere = rule.parts is None or part in rule.parts
        if kind in rule.modules and somewhere and (rule.match is None or fnmatchcase(name, rule.match)):
            return rule, own_spec(spec, rule)
    own = kind in spec.modules and (part is None or part in spec.parts)
    return None, plain(spec) if own else None


def resolved_recipe(
    spec: QuantSpec, resolved: QuantSpec, resolve: Callable[[QuantSpec], QuantSpec]
) -> tuple[Rule, ...]:
    """The recipe of `spec` in its one spelling, beside the resolved plain fields.

    A rule sets just what differs from them, defaults of its own code included; rules at the end that change nothing
    are gone, so that a recipe which changes nothing is none.

    Args:
        spec: as asked.
        resolved: its plain fields with every default filled in.
        resolve: fills in the defaults of a plain spec.
    """
    rules = [_resolved(spec, resolved, rule, resolve) for rule in spec.recipe]
    while rules and _is_idle(rules[-1], resolved):
        rules.pop()
    return tuple(rules)


def _resolved(spec: QuantSpec, resolved: QuantSpec, rule: Rule, resolve: Callable[[QuantSpec], QuantSpec]) -> Rule:
    everywhere = rule.parts == ENCODER_AND_DECODER and ModuleKind.TIED not in rule.modules
    selectors: dict[str, Any] = {
        "modules": rule.modules,
        "parts": None if everywhere else rule.parts,
        "match": rule.match,
    }
    asked = own_spec(spec, rule)
    if asked is None:
        return Rule(**selectors, skip=True)
    own = resolve(replace(asked, activations=resolved.activations))
    differing = {name: getattr(own, name) for name in SETTINGS if getattr(own, name) != getattr(resolved, name)}
    return Rule(**selectors, **differing)


def _is_idle(rule: Rule, resolved: QuantSpec) -> bool:
    parts = ENCODER_AND_DECODER if rule.parts is None else rule.parts
    return not rule.skip and not rule.settings and rule.modules <= resolved.modules and parts <= resolved.parts


def encoder_rules(spec: QuantSpec) -> list[Any]:
    """What is asked of linear layers and convolutions of the encoder, as JSON values; empty for nothing.

    Specs that say the same of the encoder in other ways may differ here.
    """
    asked: list[Any] = []
    open_kinds = {ModuleKind.LINEAR, ModuleKind.CONV}
    for rule in spec.recipe:
        kinds = rule.modules & open_kinds
        if kinds and (rule.parts is None or Part.ENCODER in rule.parts):
            asked.append([sorted(kinds), rule.match, _settings(own_spec(spec, rule))])
            open_kinds -= kinds if rule.match is None else set()
    kinds = spec.modules & open_kinds
    if kinds and Part.ENCODER in spec.parts:
        asked.append([sorted(kinds), None, _settings(plain(spec))])
    return asked


def _settings(spec: QuantSpec | None) -> dict[str, Any] | None:
    return None if spec is None else {name: str(getattr(spec, name)) for name in SETTINGS}


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """What a rule says, as JSON values: without what it leaves open, and without the usual modules."""
    values: dict[str, Any] = {} if rule.modules == LINEAR else {"modules": sorted(rule.modules)}
    if rule.parts is not None:
        values["parts"] = sorted(rule.parts)
    if rule.match is not None:
        values["match"] = rule.match
    settings = {k: str(v) if k in ("format", "granularity") else v for k, v in rule.settings.items()}
    return {**values, **settings, **({"skip": True} if rule.skip else {})}


def recipe_text(spec: QuantSpec) -> str:
    """The recipe as canonical JSON, and all of what is asked in which its rules differ; empty where there is none.

    The last rule is the configuration's own fields, as far as rules differ from them: without it, recipes beside
    different fields would read alike.
    """
    if not spec.recipe:
        return ""
    own, others = plain(spec), plain_specs(spec)
    differing = {
        name: getattr(own, name) for name in SETTINGS if any(getattr(one, name) != getattr(own, name) for one in others)
    }
    parts = None if spec.parts == ENCODER_AND_DECODER else spec.parts
    last = rule_to_dict(Rule(spec.modules, parts, **differing))
    rules = [*map(rule_to_dict, spec.recipe), *([last] if last else [])]
    return json.dumps(rules, sort_keys=True, separators=(",", ":"))


def told(rule: Rule) -> str:
    """A rule as it stands in a file."""
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in rule_to_dict(rule).items()) + "}"


def shown(rule: Rule) -> str:
    """A rule for people, in a label.

    >>> shown(Rule(parts=frozenset({Part.DECODER}), bits=3))
    'decoder 3-bit'
    """
    what = ["float"] if rule.skip else [_shown(key, value) for key, value in rule.settings.items()]
    return " ".join([*place(rule), *what])


def place(rule: Rule) -> list[str]:
    """The modules that a rule selects, for people.

    >>> place(Rule(modules=["tied"]))
    ['tied']
    """
    kinds = [] if rule.modules == LINEAR and (rule.parts or rule.match) else sorted(rule.modules)
    return [part for part in ("+".join(kinds), "+".join(sorted(rule.parts or ())), rule.match or "") if part]


def shown_recipe(text: str) -> str:
    """The recipe of `recipe_text` for people."""
    return "; ".join(shown(Rule(**rule)) for rule in json.loads(text)) if text else ""


def _shown(key: str, value: Any) -> str:
    if key == "bits":
        return f"{value}-bit"
    named = {"symmetric": ("asymmetric", "symmetric"), "outputs": ("float outputs", "outputs")}
    return named[key][value] if key in named else str(value)
