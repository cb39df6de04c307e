"""From an experiment to its configurations: grid blocks multiplied out, united, resolved, with their baselines.

Works without torch, a model or the network, so that `--dry-run` answers at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from backends import (
    FULL_PRECISION,
    Activations,
    AsrQuantError,
    QuantSpec,
    Supported,
    Unsupported,
    calibrates,
    capability,
    resolve,
)
from backends.core.errors import did_you_mean
from backends.core.serial import to_jsonable
from harness.errors import ConfigError
from harness.experiment.cell import Configuration, spec_columns
from harness.experiment.config import Experiment, Grid
from harness.experiment.tables import NO_DRAW, Draw, Model

_MULTIPLIED = (
    *("backend", "scheme", "granularity", "bits", "format", "method", "symmetric", "activations", "outputs", "rest"),
    *("modules", "parts", "recipe"),
)
_SETS = ("modules", "parts", "recipe")
"""Of these, what is a list itself."""


def configurations(experiment: Experiment) -> list[Configuration]:
    """All configurations of `experiment` in the order of the file, each once, every model's baseline first.

    Raises:
        ConfigError: a block names something unknown, or no configuration of the whole grid can be done.
    """
    found = _found(experiment)
    refused = [c for c in found if not isinstance(c.capability, Supported)]
    if len(refused) == len(found):
        first = refused[0]
        raise ConfigError(f"grid: no configuration can be done; the first, {first.label}: {first.capability.reason}")  # type: ignore[union-attr]
    return _planned(found, experiment)


def recorded_configurations(experiment: Experiment) -> list[Configuration]:
    """The same of an experiment that was run, here or elsewhere: whatever is installed now.

    Raises:
        ConfigError: a block names something unknown.
    """
    return _planned(_found(experiment), experiment)


def _found(experiment: Experiment) -> list[Configuration]:
    """What the grid names, each once."""
    found: dict[Configuration, None] = {}
    for model in experiment.model:
        for number, block in enumerate(experiment.grid):
            if block.models is not None and model.label not in block.models:
                continue
            for configuration in _of_block(model, block, number, experiment):
                found.setdefault(configuration)
    return list(found)


def _planned(found: Sequence[Configuration], experiment: Experiment) -> list[Configuration]:
    return [_with_published(c, experiment) for c in with_baselines(found, found)]


def _with_published(configuration: Configuration, experiment: Experiment) -> Configuration:
    """The configuration, with the experiment's published values of its model where it is full precision."""
    own = next((entry for entry in experiment.published if entry.model == configuration.model.label), None)
    if own is None or not configuration.is_baseline:
        return configuration
    return dataclasses.replace(configuration, reference=own)


def with_baselines(chosen: Sequence[Configuration], planned: Sequence[Configuration]) -> list[Configuration]:
    """Put the full-precision baseline of every model and device in `chosen` at the front, as `planned` has it."""
    known = {configuration: configuration for configuration in planned}
    baselines = {baseline: known.get(baseline, baseline) for baseline in map(baseline_of, chosen)}
    return [*baselines.values(), *(c for c in chosen if c not in baselines)]


def baseline_of(configuration: Configuration) -> Configuration:
    """The full-precision configuration that `configuration` is compared with."""
    return dataclasses.replace(
        configuration,
        backend="none",
        spec=FULL_PRECISION,
        options="{}",
        capability=capability(FULL_PRECISION, "none"),
        draw=NO_DRAW,
        reference=configuration.reference if configuration.is_baseline else None,
    )


def select(planned: Sequence[Configuration], only: str) -> list[Configuration]:
    """The configurations that match `only`, such as `backend=hqq,bits=4|3`, with their baselines.

    Values are spelled as in the experiment file; `id` is the `configuration_id` of the results.

    Raises:
        ConfigError: an unknown column, or nothing matches.
    """
    conditions = list(_conditions(only, ["id", *spec_columns(planned[0])]))
    for key, values in conditions:
        unmet = [value for value in values if not any(_matches(c, key, [value]) for c in planned)]
        for value in unmet:
            if len(unmet) == len(values) or not value.isdigit():  # a width may well be absent among several
                there = sorted({str(_asked(c, key)) for c in planned})
                near = "" if value.isdigit() else did_you_mean(value, there)
                near = near or f"; it is {' or '.join(there[:8])}"
                raise ConfigError(f"--only {only}: {key} is never {value}{near}")
    chosen = [c for c in planned if all(_matches(c, *condition) for condition in conditions)]
    if not chosen:
        raise ConfigError(
            f"--only {only}: no configuration has all of this; python -m harness.grid FILE --list shows them"
        )
    return with_baselines(chosen, planned)


def _conditions(only: str, columns: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Keys with the values that are wanted of them.

    Raises:
        ConfigError: it is not written so, or a key is not one of the columns.
    """
    parts = [part.strip() for part in only.split(",") if part.strip()]
    if not parts:
        raise ConfigError("--only names nothing; write KEY=VALUE, such as backend=hqq")
    for place, part in enumerate(parts):
        key, separator, values = (piece.strip() for piece in part.partition("="))
        if not separator and key in columns:
            raise ConfigError(f"--only {only}: {key} has no value; write {key}=VALUE")
        if not separator and place:
            raise ConfigError(f"--only {only}: write several values of a key with |, as in bits=4|3")
        if not separator:
            raise ConfigError(f"--only {only}: write KEY=VALUE, such as backend=hqq")
        if key not in columns:
            raise ConfigError(f"--only {only}: {key!r} is not one of {', '.join(columns)}{did_you_mean(key, columns)}")
        yield key, [value.strip() for value in values.split("|")]


def _matches(configuration: Configuration, key: str, values: Sequence[str]) -> bool:
    value = _asked(configuration, key)
    spellings = {str(value), str(value).lower()}
    if key == "granularity":
        spellings.add(str(configuration.spec.granularity))
    return bool(spellings & set(values))


def _asked(configuration: Configuration, key: str) -> Any:
    return configuration.id if key == "id" else spec_columns(configuration)[key]


def _of_block(model: Model, block: Grid, number: int, experiment: Experiment) -> Iterator[Configuration]:
    axes = {name: (_as_sets if name in _SETS else _as_list)(getattr(block, name)) for name in _MULTIPLIED}
    device = real_device(block.device or experiment.run.device)
    strangers = sorted(set(block.options) - set(axes["backend"]))
    if strangers:
        raise ConfigError(f"grid.{number}.options.{strangers[0]}: the block has no backend {strangers[0]!r}")
    for values in itertools.product(*axes.values()):
        fields = dict(zip(axes, values, strict=True))
        backend = fields.pop("backend")
        for options in _option_combinations(block, backend):
            try:
                spec = _spec(fields)
                resolved, filled = resolve(spec, backend, options)
                answer = capability(resolved, backend, options, device)
                draws: tuple[Draw, ...] = (NO_DRAW,)
                if calibrates(resolved, backend, options):
                    if experiment.calibration is None and isinstance(answer, Supported):
                        answer = Unsupported("it needs speech to calibrate on: add a [calibration] table")
                    elif experiment.calibration is not None:
                        draws = experiment.calibration.draws
            except AsrQuantError as error:
                raise ConfigError(f"grid.{number}: {error}") from None
            text = json.dumps(to_jsonable(filled), sort_keys=True)
            for draw in draws:
                yield Configuration(model, backend, resolved, text, device, answer, draw, block.reference)


def _spec(fields: dict[str, Any]) -> QuantSpec:
    """What one combination of a block's lists asks."""
    table = fields["activations"]
    activations = None if table is None else Activations(**table.model_dump())
    recipe = tuple(rule.model_dump() for rule in fields["recipe"])
    bits = None if fields["bits"] == "mixed" else fields["bits"]
    return QuantSpec(**{**fields, "activations": activations, "recipe": recipe, "bits": bits})


def _option_combinations(block: Grid, backend: str) -> Iterator[dict[str, Any]]:
    own = block.options.get(backend, {})
    for values in itertools.product(*(_as_list(value) for value in own.values())):
        yield dict(zip(own, values, strict=True))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_sets(value: list[Any]) -> list[list[Any]]:
    return value if value and isinstance(value[0], list) else [value]


def with_devices(experiment: Experiment) -> Experiment:
    """The experiment with the devices that `auto` means on this machine, so that others can read what was planned."""
    run = experiment.run.model_copy(update={"device": real_device(experiment.run.device)})
    blocks = [
        b if b.device is None else b.model_copy(update={"device": real_device(b.device)}) for b in experiment.grid
    ]
    return experiment.model_copy(update={"run": run, "grid": blocks})


def real_device(asked: str) -> str:
    """`auto` as `cuda` where an NVIDIA driver answers, else `cpu`; importing torch to ask takes a second."""
    if asked != "auto":
        return asked
    return "cuda" if nvidia_driver() else "cpu"


def nvidia_driver() -> bool:
    """Whether an NVIDIA driver answers here."""
    return shutil.which("nvidia-smi") is not None
