"""Files of claims: TOML to frozen, validated values. Every `[[claim]]` has the keys of its test and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from backends.core.errors import did_you_mean
from harness.errors import ConfigError
from harness.experiment._sentences import first_sentence
from harness.experiment._toml import read_toml
from harness.experiment.base import Several, Table

Selection = Annotated[dict[str, str | int | float | bool], Field(min_length=1)]
"""Values by column of the results: the one cell that has them all."""


class Claim(Table):
    """What every claim has.

    Attributes:
        name: short and unique, for messages.
        source: the publication.
        sentence: what is claimed, in words.
        label: what a reader must know beside the table's columns, such as that it is claimed of another model.
        runs: directories of finished runs; a claim is about each of them, unless it compares two.
        cell: what it is about.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,59}$")
    source: str
    sentence: str
    label: str = ""
    runs: Several[str]
    cell: Selection

    @field_validator("runs", "splits", check_fields=False)
    @classmethod
    def _each_once(cls, places: list[str]) -> list[str]:
        """A place that is named twice would count twice."""
        if len(set(places)) < len(places):
            raise ValueError("one of them is named twice")
        return places


class OnSplits(Claim):
    """A claim about word errors.

    Attributes:
        splits: test sets; a claim is about each of them, unless it compares two.
        against: the cell that it is compared with; without it, full precision.
    """

    splits: Several[str]
    against: Selection | None = None


class NonInferior(OnSplits):
    """The cell makes at most `margin` more errors, relative to the other's; with `direction` above, it makes more.

    Attributes:
        margin: of relative errors, such as .05 for 5 % more.
        direction: where the relative errors are claimed to lie.
    """

    test: Literal["non_inferior"]
    margin: float = Field(ge=0, allow_inf_nan=False)
    direction: Literal["above", "below"] = "below"


class Difference(OnSplits):
    """WER of the cell minus that of the other lies above or below `margin`, a fraction: .01 is a point of WER."""

    test: Literal["difference"]
    margin: float = Field(allow_inf_nan=False)
    direction: Literal["above", "below"]


class Interaction(OnSplits):
    """What the cell costs beyond the other in the first place minus the same in the second, above or below.

    Attributes:
        between: `splits` compares two test sets within each run, `runs` two runs on each test set.
        cost: `points` of WER, or `relative` to the other's errors.
        margin: a fraction, as that of `Difference`.
        direction: where the difference of the differences is claimed to lie.
    """

    test: Literal["interaction"]
    between: Literal["splits", "runs"]
    cost: Literal["points", "relative"] = "points"
    margin: float = Field(allow_inf_nan=False)
    direction: Literal["above", "below"]

    @model_validator(mode="after")
    def _two(self) -> Interaction:
        compared = getattr(self, self.between)
        if len(set(compared)) != 2 or len(compared) != 2:
            raise ValueError(f'between = "{self.between}" compares two {self.between}: name exactly two different ones')
        return self


class SizeReduction(Claim):
    """The model shrinks by `value`, a fraction.

    Attributes:
        measure: relative to the model as it was loaded, or as it was published.
        value: claimed.
        margin: how far the measured one may lie from it.
        direction: `within` the margin, or at least (`above`) or at most (`below`) the value, give or take the margin.
    """

    test: Literal["size_reduction"]
    measure: Literal["size_reduction", "size_reduction_published"]
    value: float = Field(allow_inf_nan=False)
    margin: float = Field(ge=0, allow_inf_nan=False)
    direction: Literal["within", "above", "below"] = "within"


Compared = NonInferior | Difference | Interaction
AnyClaim = Compared | SizeReduction
_BY_TEST: dict[str, type[AnyClaim]] = {
    "non_inferior": NonInferior,
    "difference": Difference,
    "interaction": Interaction,
    "size_reduction": SizeReduction,
}


def load_claims(path: Path) -> list[AnyClaim]:
    """Read and validate a file of claims, in its order.

    Raises:
        ConfigError: names the file, the claim, the key and what is allowed.
    """
    document = read_toml(path, "file of claims")
    tables = document.pop("claim", None)
    if document or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: a file of claims has [[claim]] tables and nothing else")
    if not tables:
        raise ConfigError(f"{path}: there is no claim in it")
    claims = [_claim(path, number, table) for number, table in enumerate(tables)]
    names = [claim.name for claim in claims]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise ConfigError(f"{path}: two claims are called {repeated!r}: give one of them another name")
    return claims


def _claim(path: Path, number: int, table: dict[str, Any]) -> AnyClaim:
    where = f"{path}: claim {table.get('name', number)!r}"
    kind = _BY_TEST.get(str(table.get("test")))
    if kind is None:
        raise ConfigError(
            f"{where}: key test: it must be one of {', '.join(_BY_TEST)}, but it is {table.get('test')!r}"
            f"{did_you_mean(str(table.get('test')), _BY_TEST)}"
        )

    def allowed(location: Sequence[int | str]) -> list[str]:
        return sorted(kind.model_fields)

    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_sentence(error, allowed)}") from None
