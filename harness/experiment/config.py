"""Experiment files: TOML to frozen, validated values. Nothing is resolved here that needs a model or the network.

A file has `name`, tables `[run]`, `[decoding]`, `[calibration]`, and the repeatable `[[model]]`,
`[[data]]` and `[[grid]]`. The lists of a grid block are multiplied out; blocks are united.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from harness.errors import ConfigError
from harness.experiment._overrides import apply_override
from harness.experiment._sentences import first_sentence
from harness.experiment._toml import read_toml
from harness.experiment.base import Scalar, Several, Table
from harness.experiment.tables import Calibration, Data, Decoding, Model, Run, Scoring, Stop


class Reference(Table):
    """Published values, shown beside what was measured.

    Attributes:
        source: the publication, and whether it is its own table; in which precision.
        wer: in percent, by split.
    """

    source: str
    wer: dict[str, float]


class Published(Reference):
    """Published values of a model in full precision.

    Attributes:
        model: its `name`.
    """

    model: str


class Point(Table):
    """A published model of a size, drawn beside what was measured in the figure of sizes.

    Attributes:
        label: what it is called there, such as `Q8_0`.
        size_mb: its size, in 10^6 bytes.
        wer: in percent, by split.
        source: the publication.
    """

    label: str = Field(min_length=1)
    size_mb: float = Field(gt=0)
    wer: dict[str, float]
    source: str


class ActivationsTable(Table):
    """How activations are coded; see `backends.Activations`.

    Attributes:
        bits: of a code.
        format: `int` or `fp8_e4m3`.
        granularity: `per_tensor`, `per_token`, or `per_group:SIZE` within a token.
        symmetric: whether there is no zero point; the library's default without it.
    """

    bits: int = 8
    format: str = "int"
    granularity: str = "per_tensor"
    symmetric: bool | None = None


class RuleTable(Table):
    """One rule of a recipe; see `backends.Rule`.

    Attributes:
        modules: selector: kinds of modules, `["linear"]` without it.
        parts: selector: `encoder`, `decoder` or both; anywhere without it.
        match: selector: a pattern of the full name, such as `model.encoder.layers.3.*`.
        bits, format, granularity, symmetric, method, outputs: as in the block, for the modules that it decides.
        skip: they stay float.
    """

    modules: Several[str] = Field(default_factory=lambda: ["linear"])
    parts: Several[str] | None = None
    match: str | None = None
    bits: int | None = None
    format: str | None = None
    granularity: str | None = None
    symmetric: bool | None = None
    method: str | None = None
    outputs: bool | None = None
    skip: bool = False


class Grid(Table):
    """One block of configurations: every combination of its lists.

    Attributes:
        backend: the library; `python -m backends` lists them.
        scheme: `weight_only`, `dynamic` (activations are coded with scales of each call), `static` (with fixed ones) or
            `none`.
        granularity: what shares a scale of the weights: `per_tensor`, `per_channel` or `per_group:SIZE`.
        bits: of a weight code; `"mixed"` leaves it to the method to allot bits to layers under a budget.
        format: of a weight code: `int`, `fp8_e4m3`, `nf4`, `fp4`, `nvfp4`, `mxfp4`, `mxfp8`, `fp16`, `bf16`, `fp32`.
        method: how codes are chosen, such as `rtn`, `gptq`, `awq`; the library's own without it.
        symmetric: whether weight codes have no zero point; the library's default without it.
        activations: how activations are coded, one table or a list; the library's default for the scheme without it.
        modules: one set (a list) of `linear`, `head`, `embedding`, `conv`, `tied` (head and embedding as one), or a
            list of sets.
        parts: one set of `encoder`, `decoder`, or a list of sets.
        outputs: whether layers' outputs are rounded to a code too; true, false or a list of both.
        rest: as what everything is stored that is not quantized: `fp32` (as it was loaded), `fp16`, `bf16` or
            `published` (the narrowest that holds every number of it).
        recipe: one list of rules, or a list of such lists. The first rule that selects a module (`parts`, `modules`,
            `match`) decides it (`bits`, `format`, `granularity`, `symmetric`, `method`, `outputs`, `skip`); what it
            does not set, and modules that no rule selects, are as the block says.
        options: by backend, the adapter's own options; each one value or a list.
        device: where this block runs, if not where `[run]` says.
        models: names of the models that the block is for; all of them without it.
        reference: published values for this block.
    """

    backend: str | Several[str]
    scheme: str | Several[str] = "weight_only"
    granularity: str | Several[str] = "per_channel"
    bits: int | Literal["mixed"] | Several[int | Literal["mixed"]]
    format: str | Several[str] = "int"
    method: str | Several[str] | None = None
    symmetric: bool | Several[bool] | None = None
    activations: ActivationsTable | Several[ActivationsTable] | None = None
    modules: Several[str] | Several[list[str]] = Field(default_factory=lambda: ["linear"])
    parts: Several[str] | Several[list[str]] = Field(default_factory=lambda: ["encoder", "decoder"])
    outputs: bool | Several[bool] | None = None
    rest: str | Several[str] = "fp32"
    recipe: list[RuleTable] | Several[list[RuleTable]] = Field(default_factory=list)
    options: dict[str, dict[str, Scalar | Several[Scalar]]] = Field(default_factory=dict)
    device: Literal["cpu", "cuda", "auto"] | None = None
    models: Several[str] | None = None
    reference: Reference | None = None


class Experiment(Table):
    """A whole experiment file.

    Attributes:
        name: of its run directory: letters, digits, `.`, `_` and `-`.
        description: shown in the plan and on the page.
        model: `model = "path"` is short for one `[[model]]` with that path.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    description: str = ""
    model: list[Model] = Field(min_length=1)
    data: list[Data] = Field(min_length=1)
    decoding: Decoding = Decoding()
    scoring: Scoring = Scoring()
    calibration: Calibration | None = None
    run: Run = Run()
    published: list[Published] = Field(default_factory=list)
    point: list[Point] = Field(default_factory=list)
    grid: list[Grid] = Field(min_length=1)

    @field_validator("model", mode="before")
    @classmethod
    def _one_model(cls, value: Any) -> Any:
        """`model = "path/to/directory"` is short for one `[[model]]` with that path."""
        return [{"path": value}] if isinstance(value, str) else value

    @field_validator("data")
    @classmethod
    def _every_condition(cls, tables: list[Data]) -> list[Data]:
        """A test set with several conditions is as many test sets."""
        return [data for table in tables for data in table.multiplied()]

    @model_validator(mode="after")
    def _distinct_labels(self) -> Experiment:
        labels = [data.label for data in self.data]
        repeated = [label for label in labels if labels.count(label) > 1]
        if repeated:
            raise ValueError(f'two [[data]] entries are called {repeated[0]!r}: give one of them a name = "..."')
        return self

    @model_validator(mode="after")
    def _known_models(self) -> Experiment:
        paths: dict[str, str] = {}
        for model in self.model:
            if paths.setdefault(model.label, model.path) != model.path:
                raise ValueError(f"two [[model]] entries are called {model.label!r}: give each a name of its own")
        named = [(entry.model, "[[published]]") for entry in self.published]
        named += [(name, "a [[grid]] block") for block in self.grid for name in block.models or ()]
        for name, where in named:
            if name not in paths:
                raise ValueError(f"{where} is for {name!r}, which is not the name of a [[model]]")
        return self

    @model_validator(mode="after")
    def _stops_by_speakers(self) -> Experiment:
        if self.run.stop is not None and self.decoding.batches != "speakers":
            raise ValueError('[run.stop] looks at whole speakers: it needs decoding.batches = "speakers"')
        return self

    @field_validator("model", "data", "grid")
    @classmethod
    def _no_repetition(cls, entries: list[Any]) -> list[Any]:
        for position, entry in enumerate(entries):
            if entry in entries[:position]:
                raise ValueError(f"entry {position} repeats an earlier one")
        return entries


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: of the TOML file; relative paths in it are taken from the working directory.
        overrides: `key=value` pairs such as `decoding.batch_size=8`, values written as in TOML.

    Raises:
        ConfigError: names the file, the key and the allowed values.
    """
    document = read_toml(path, "experiment file")
    if document.keys() == {"claim"}:
        raise ConfigError(f"{path}: it is a file of claims, for python -m harness.claims")
    for override in overrides:
        apply_override(document, override)
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{_origin(path, overrides)}: {first_sentence(error, _fields_at)}") from None


def _origin(path: Path, overrides: Sequence[str]) -> str:
    """The file, with what the command line changes in it."""
    return " ".join([str(path), *(f"--set {override}" for override in overrides)])


def _table_of(table: Any, key: str) -> Any:
    tables = (Model, Data, Decoding, Scoring, Calibration, Run, Stop, Grid, Published, Point, Reference)
    by_key = {kind.__name__.lower(): kind for kind in tables} | {"activations": ActivationsTable, "recipe": RuleTable}
    return by_key.get(key, table)


def _fields_at(location: Sequence[int | str]) -> list[str]:
    table: Any = Experiment
    for part in location:
        if isinstance(part, str):
            table = _table_of(table, part)
    return sorted(table.model_fields)
