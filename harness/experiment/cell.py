"""Configurations and cells, and what identifies them. Pure values; nothing is loaded here.

A *configuration* is a model, a resolved spec with options, a device and the decoding. A *cell* is a
configuration on one data split. `cell_id` is a hash of all that can change a hypothesis.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from backends import (
    FULL_PRECISION,
    Capability,
    Form,
    PerGroup,
    QuantSpec,
    Scheme,
    Supported,
    calibrates,
    resolve,
    row_independent,
)
from backends.core.recipes import encoder_rules, plain_specs, recipe_text, shown
from backends.core.spec import SETTINGS
from harness._printing import printable
from harness.experiment.conditions import KEYS
from harness.experiment.config import Reference
from harness.experiment.tables import NO_DRAW, Calibration, Data, Decoding, Draw, Model

SCHEMA_VERSION = 6
"""Of cells and of the run directory; see `harness.records.store`."""


class CellStatus(StrEnum):
    """How a cell ended."""

    DONE = "done"
    STOPPED = "stopped"
    """Ended early, since it is certainly much worse than its baseline."""
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True)
class Configuration:
    """What one worker process does.

    Attributes:
        model: the recogniser.
        backend: name of the adapter; `none` for full precision.
        spec: resolved, no blanks.
        options: the adapter's, every default filled in, as JSON text with sorted keys.
        device: `cpu` or `cuda`.
        draw: of calibration speech, where there is calibration.
        capability: whether the backend can do it.
        reference: published values to show beside it; no part of its identity.
    """

    model: Model
    backend: str
    spec: QuantSpec
    options: str
    device: str
    capability: Capability = field(compare=False)
    draw: Draw = NO_DRAW
    reference: Reference | None = field(default=None, compare=False)

    @property
    def is_baseline(self) -> bool:
        """Whether this is a full-precision baseline of other configurations."""
        return self.backend == "none" and self.spec == FULL_PRECISION

    @property
    def id(self) -> str:
        """Hash of its columns: what its rows have in common in the results of a run."""
        return id_of(identifying(spec_columns(self)))

    @property
    def option_values(self) -> dict[str, Any]:
        """The adapter's options by name."""
        values: dict[str, Any] = json.loads(self.options)
        return values

    @property
    def calibrates(self) -> bool:
        """Whether it needs calibration speech."""
        return calibrates(self.spec, self.backend, self.option_values)

    def drawn(self, calibration: Calibration | None) -> Calibration | None:
        """What it is calibrated on: its own draw, or nothing."""
        return calibration.drawn(self.draw) if calibration and self.calibrates else None

    @property
    def form(self) -> Form | None:
        """What the quantized model is; `None` where there can be none."""
        return self.capability.form if isinstance(self.capability, Supported) else None

    @property
    def encoder(self) -> str | None:
        """A hash that those have in common whose encoders may be the same; `None` where the model is not looked into.

        Head, embedding and decoder do not matter to it, nor what does not touch the encoder.
        """
        if self.form is not Form.LAYERS:
            return None
        asked = encoder_rules(self.spec)
        if self.backend == "none" or not asked:
            return hash_of([self.model.model_dump(), self.device])
        columns = {key: value for key, value in spec_columns(self).items() if key not in _OF_RULES}
        return hash_of([columns, asked])

    @property
    def takes_drafts(self) -> bool:
        """Whether checking a draft gives what decoding token by token gives.

        The decoder must be one that can be asked for it, rows must not depend on each other, and sums must be precise
        enough that their order does not matter.
        """
        precise = self.model.dtype == "float32" and self.spec.format not in ("bf16", "fp16")
        asked = self.form is not Form.GENERATOR
        return asked and precise and row_independent(self.spec, self.backend, self.option_values)

    @property
    def label(self) -> str:
        """Short name for people, never parsed: backend, code, granularity, and all that is not the default."""
        spec = self.spec
        if spec.scheme is Scheme.NONE:
            return f"{self.backend} {spec.format}" if self.backend != "none" else f"full precision {self.model.dtype}"
        asked = QuantSpec(spec.scheme, spec.granularity, spec.bits, spec.format)
        usual, options = resolve(asked, self.backend, self.option_values)
        defaults = resolve(asked, self.backend)[1]
        width = f"{spec.format}{spec.bits or '-mixed'}" if spec.format == "int" else str(spec.format)
        unusual = [
            f"{key}={_shown(getattr(spec, key))}"
            for key in ("method", "symmetric", "activations", "modules", "parts", "outputs", "rest")
            if getattr(spec, key) != getattr(usual, key) or (key == "method" and self._names_its_method)
        ]
        own = [f"{k}={_shown(v)}" for k, v in vars(options).items() if v != getattr(defaults, k)]
        drawn = {"draw": self.draw.seed, "noise_db": self.draw.noise_db}
        draw = [f"{key}={_shown(value)}" for key, value in drawn.items() if value is not None]
        recipe = [f"[{'; '.join(map(shown, spec.recipe))}]"] if spec.recipe else []
        return " ".join([self.backend, str(spec.scheme), width, str(spec.granularity), *unusual, *recipe, *own, *draw])

    @property
    def _names_its_method(self) -> bool:
        """Whether the method says something that neither rounding to nearest nor the backend's name implies."""
        return self.spec.method not in ("rtn", self.backend)


def _shown(value: Any) -> str:
    if isinstance(value, frozenset):
        return "+".join(sorted(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Cell:
    """A configuration on one split, identified.

    Attributes:
        configuration: what runs.
        data: the split.
        identity: all that can change a hypothesis, as JSON values.
        cell_id: its hash.
        batches: ids of the utterances of every planned batch, in order.
    """

    configuration: Configuration
    data: Data
    identity: dict[str, Any] = field(compare=False)
    cell_id: str
    batches: tuple[tuple[str, ...], ...] = field(compare=False)

    @property
    def utterances(self) -> int:
        """How many it has."""
        return sum(map(len, self.batches))

    def about(self, status: CellStatus, reason: str) -> dict[str, Any]:
        """What its `cell.json` says in any case; people and `harness.verify` find it by model, label and split."""
        return {
            "cell_id": self.cell_id,
            "identity": self.identity,
            "configuration_id": self.configuration.id,
            "configuration": self.configuration.label,
            "model": self.configuration.model.label,
            "split": self.data.label,
            "status": status,
            "reason": printable(reason),
            "measured": {},
        }


def hash_of(value: Any) -> str:
    """Sixteen hexadecimal digits that identify JSON values: SHA-256 of their canonical text."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def id_of(value: Any) -> str:
    """What names a cell or a configuration: its hash behind a letter, so that no spreadsheet takes it for a number.

    >>> id_of({"bits": 4})
    'c82371be0f920a4e'
    """
    return f"c{hash_of(value)[:15]}"


def spec_columns(configuration: Configuration) -> dict[str, Any]:
    """The configuration as columns of the results; empty where the rules of a recipe differ in one."""
    spec = configuration.spec
    columns = _columns(configuration, spec)
    if spec.recipe:
        each = [_columns(configuration, plain) for plain in plain_specs(spec)]
        columns = {key: value if all(one[key] == value for one in each) else None for key, value in columns.items()}
    return {**columns, "recipe": recipe_text(spec)}


def _columns(configuration: Configuration, spec: QuantSpec) -> dict[str, Any]:
    return {
        "model": configuration.model.label,
        "revision": configuration.model.revision,
        "backend": configuration.backend,
        "method": spec.method,
        "scheme": str(spec.scheme),
        "granularity": str(spec.granularity).partition(":")[0],
        "group_size": spec.granularity.group_size if isinstance(spec.granularity, PerGroup) else None,
        "bits": spec.bits,
        "format": str(spec.format),
        "symmetric": spec.symmetric,
        "activations": None if spec.activations is None else str(spec.activations),
        "modules": "+".join(sorted(spec.modules)),
        "parts": "+".join(sorted(spec.parts)),
        "outputs": spec.outputs,
        "rest": str(spec.rest),
        "options": configuration.options,
        "calibration_seed": configuration.draw.seed,
        "calibration_noise_db": configuration.draw.noise_db,
        "dtype": configuration.model.dtype,
        "device": configuration.device,
    }


_OF_RULES = {*SETTINGS, "group_size", "modules", "parts", "rest", "recipe"}
"""Columns that say what is asked of which modules."""
LATER_COLUMNS = {"outputs": False, "rest": "fp32", "recipe": ""}
"""Columns that were added when there were results already, with the level that these have."""


def identifying(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that enter a hash: a later one at the level of earlier results does not, so that ids stay."""
    return {key: value for key, value in columns.items() if key not in LATER_COLUMNS or value != LATER_COLUMNS[key]}


_NOT_SAID = (
    "root",
    "revision",
    "name",
    "limit",
    "seed",
    "max_seconds",
    "alignments",
    "join_seconds",
    "normalizer",
    "error_unit",
    *KEYS,
)
"""Keys of calibration speech that change no cell's id."""
_LATER_DECODING = {"batches": "length"}
"""Keys of `[decoding]` that were added later: the values that change no cell's id."""


def settings_of(decoding: Decoding, calibration: Calibration | None) -> dict[str, Any]:
    """Decoding and calibration settings as JSON values, for a cell's identity.

    Left out are the strategy of decoding, because it changes no hypothesis, the rate of tokens, which is the model's
    where the experiment names none (see `harness.resolution.identity`), batches by length, which were the only ones,
    where data lies and how much of it is taken, which the samples tell, its condition, which its speech tells, how
    calibration speech would be scored, a language of it that is not named, and seed and noise, which are among the
    configuration's columns.
    """
    usual = {key for key, value in _LATER_DECODING.items() if getattr(decoding, key) == value}
    unnamed = {"language"} if calibration is None or calibration.data.language is None else set()
    where: dict[str, Any] = {"data": {*_NOT_SAID, *unnamed}, "seed": True, "noise_db": True}
    said = decoding.model_dump(mode="json", exclude={"strategy", "tokens_per_second", *usual})
    return {
        "decoding": said | {"language": decoding.code},
        "calibration": None if calibration is None else calibration.model_dump(mode="json", exclude=where),
    }
