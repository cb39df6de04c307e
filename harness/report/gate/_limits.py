"""Files of limits: what a run may lose against an earlier one, for all cells and for some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from harness.errors import ConfigError
from harness.experiment._sentences import first_sentence
from harness.experiment._toml import read_toml
from harness.experiment.base import Table
from harness.report.columns import Row, check_columns, levels, texts

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Selection = Annotated[dict[str, str | int | float | bool], Field(min_length=1)]


class Limits(Table):
    """How much worse each measure may be; one that is not named is not judged.

    Attributes:
        wer: points of WER beyond that of the earlier run.
        size: per cent more bytes.
        latency: per cent more time, each run relative to full precision beside it.
        memory: per cent more at the peak.
        widths: points of WER by which more bits may be worse than fewer, all else equal, within the run.
    """

    wer: Limit | None = None
    size: Limit | None = None
    latency: Limit | None = None
    memory: Limit | None = None
    widths: Limit | None = None


class Other(Limits):
    """Other limits for some cells.

    Attributes:
        cells: which.
    """

    cells: Selection

    def fits(self, row: Row) -> bool:
        """Whether a cell is one of them."""
        return texts(self.cells).items() <= levels(row).items()


class LimitsFile(Limits):
    """A file of limits.

    Attributes:
        but: other limits; of several tables that fit a cell, and name a measure, the first counts.
    """

    but: list[Other] = Field(default_factory=list)

    def of(self, measure: str, row: Row) -> float | None:
        """The limit of a measure for a cell; `None` where it is not judged."""
        own = [table for table in self.but if table.fits(row)]
        found = [getattr(table, measure) for table in [*own, self]]
        return next((limit for limit in found if limit is not None), None)


def load_limits(path: Path) -> LimitsFile:
    """Read and validate a file of limits.

    Raises:
        ConfigError: names the file, the key and what is allowed.
    """
    document = read_toml(path, "file of limits")

    def allowed(location: Sequence[int | str]) -> list[str]:
        return sorted((Other if location else LimitsFile).model_fields)

    try:
        limits = LimitsFile.model_validate(document)
        for table in limits.but:
            check_columns(table.cells)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_sentence(error, allowed)}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: but: {error}") from None
    tables: list[Limits] = [limits, *limits.but]
    if not any(getattr(table, measure) is not None for table in tables for measure in Limits.model_fields):
        raise ConfigError(f"{path}: it names no limit; write one or more of {', '.join(Limits.model_fields)}")
    return limits
