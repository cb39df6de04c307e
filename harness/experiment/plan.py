"""From an experiment to its configurations: grid blocks multiplied out, united, resolved, with their baselines.

Works without torch, a model or the network, so that `--dry-run` answers at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
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
    parse_granularity,
    resolve,
)
from harness.errors import ConfigError
from harness.experiment.cell import Configuration, spec_columns
from harness.experiment.config import ActivationsTable, Experiment, Grid
from harness.experiment.tables import NO_DRAW, Draw, Model

_ENGLISH = ("en", "english", "<|en|>")
_MULTIPLIED = ("backend", "scheme", "granularity", "bits", "format", "method", "symmetric", "activations", "outputs")


def configurations(experiment: Experiment) -> list[Configuration]:
    """All configurations of `experiment` in the order of the file, each once, every model's baseline first.

    Raises:
        ConfigError: a block names something unknown, no configuration of the whole grid can be done, or the language
            is not English.
    """
    if experiment.decoding.language.lower() not in _ENGLISH:
        raise ConfigError(
            f"decoding.language {experiment.decoding.language!r}: only English is scored so far: English rules would "
            "pass over accents and marks of other languages and drop words of theirs (harness.transcribe knows them)"
        )
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

    Values are spelled as in the experiment file.

    Raises:
        ConfigError: an unknown column, or nothing matches.
    """
    conditions = [part.partition("=") for part in only.split(",") if part]
    columns = spec_columns(planned[0])
    for key, separator, _ in conditions:
        if not separator and conditions[0][1]:
            raise ConfigError(f"--only {only}: write several values of a key with |, as in bits=4|3")
        if not separator:
            raise ConfigError(f"--only {only}: write KEY=VALUE, such as backend=hqq")
        if key.strip() not in columns:
            raise ConfigError(f"--only {only}: {key.strip()!r} is not one of {', '.join(columns)}")
    chosen = [c for c in planned if all(_matches(c, key.strip(), values) for key, _, values in conditions)]
    if not chosen:
        raise ConfigError(f"--only {only}: no configuration matches{_near(planned, conditions)}; --list shows them all")
    return with_baselines(chosen, planned)


def _near(planned: Sequence[Configuration], conditions: Sequence[tuple[str, str, str]]) -> str:
    """Values that there are, for the first condition that nothing meets."""
    for key, _, values in conditions:
        if not any(_matches(c, key.strip(), values) for c in planned):
            there = sorted({str(spec_columns(c)[key.strip()]) for c in planned})
            close = difflib.get_close_matches(values.strip(), there, n=1, cutoff=0.5)
            return f" ({key.strip()} is {' or '.join(close or there[:8])})"
    return ""


def _matches(configuration: Configuration, key: str, values: str) -> bool:
    value = spec_columns(configuration)[key]
    spellings = {str(value), str(value).lower()}
    if key == "granularity":
        spellings.add(str(configuration.spec.granularity))
    return bool(spellings & {value.strip() for value in values.split("|")})


def _of_block(model: Model, block: Grid, number: int, experiment: Experiment) -> Iterator[Configuration]:
    axes = [_as_list(getattr(block, name)) for name in _MULTIPLIED]
    sets = [_as_sets(block.modules), _as_sets(block.parts)]
    device = real_device(block.device or experiment.run.device)
    strangers = sorted(set(block.options) - set(axes[0]))
    if strangers:
        raise ConfigError(f"grid.{number}.options.{strangers[0]}: the block has no backend {strangers[0]!r}")
    for (
        backend,
        scheme,
        granularity,
        bits,
        number_format,
        method,
        symmetric,
        activations,
        outputs,
        modules,
        parts,
    ) in itertools.product(*axes, *sets):
        for options in _option_combinations(block, backend):
            try:
                spec = QuantSpec(
                    scheme,
                    parse_granularity(granularity),
                    None if bits == "mixed" else bits,
                    number_format,
                    symmetric,
                    _activations(activations),
                    method,
                    frozenset(modules),
                    frozenset(parts),
                    outputs,
                )
                resolved, filled = resolve(spec, backend, options)
                answer = capability(resolved, backend, options, device)
                draws: tuple[Draw, ...] = (NO_DRAW,)
                if calibrates(resolved, backend, options):
                    if experiment.calibration is None:
                        answer = Unsupported("it needs speech to calibrate on: add a [calibration] table")
                    else:
                        draws = experiment.calibration.draws
            except AsrQuantError as error:
                raise ConfigError(f"grid.{number}: {error}") from None
            text = json.dumps(dataclasses.asdict(filled), sort_keys=True)
            for draw in draws:
                yield Configuration(model, backend, resolved, text, device, answer, draw, block.reference)


def _option_combinations(block: Grid, backend: str) -> Iterator[dict[str, Any]]:
    own = block.options.get(backend, {})
    for values in itertools.product(*(_as_list(value) for value in own.values())):
        yield dict(zip(own, values, strict=True))


def _activations(table: ActivationsTable | None) -> Activations | None:
    return None if table is None else Activations(**table.model_dump())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_sets(value: list[str] | list[list[str]]) -> list[list[str]]:
    if value and isinstance(value[0], list):
        return value  # type: ignore[return-value]
    return [value]  # type: ignore[list-item]


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
    return "cuda" if shutil.which("nvidia-smi") else "cpu"
