"""Results to be read, in whichever form they are kept: a run directory, or a run that was published.

Neither needs a model or the network. Whoever reads results takes a `RecordedRun` and asks no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from harness.errors import OutputError
from harness.metrics import Scorer
from harness.records.layout import EXPERIMENT
from harness.records.published import ABOUT, PublishedRun, is_published, open_published
from harness.records.published import CHECKSUMS as PUBLISHED_CHECKSUMS
from harness.records.store import StoredRun

if TYPE_CHECKING:
    from harness.stats import Study

_RUNS = Path("runs")


class RecordedRun(Protocol):
    """What is known of an experiment; `harness.records.store.StoredRun` says what comes back and what is raised."""

    path: Path

    def scorer(self, split: str) -> Scorer:
        """How the utterances of a test set were scored."""
        ...

    def results(self) -> list[dict[str, Any]]:
        """One row for every finished cell."""
        ...

    def experiment(self) -> dict[str, Any]:
        """What was asked for."""
        ...

    def damage(self, cell_id: str) -> str | None:
        """What is wrong with a finished cell."""
        ...

    def finished(self, cell_id: str, status: str | None = None) -> dict[str, Any] | None:
        """The `cell.json` of a finished cell."""
        ...

    def stamp(self, cell_id: str) -> int | None:
        """When a finished cell was written."""
        ...

    def environment(self, cell_id: str) -> dict[str, Any]:
        """Versions, machine and command of a finished cell."""
        ...

    def utterances(self, cell_id: str) -> list[dict[str, Any]]:
        """The rows of the utterances that were transcribed."""
        ...

    def undecodable(self, cell_id: str) -> list[dict[str, Any]]:
        """The rows of those that could not be."""
        ...

    def layers(self, cell_id: str) -> list[dict[str, Any]]:
        """The rows of the candidate modules."""
        ...

    def operations(self, cell_id: str) -> list[dict[str, Any]]:
        """The rows of what a transcription costs."""
        ...

    def analyses(self) -> list[dict[str, Any]]:
        """What `harness.analyze` found."""
        ...

    def latency(self) -> dict[str, Any]:
        """What `harness.latency` found."""
        ...

    def planned(self) -> list[Mapping[str, Any]]:
        """The planned cells, finished or not: `configuration_id`, `configuration`, `model`, `split`."""
        ...


class Place(NamedTuple):
    """A planned cell, named for people."""

    model: str
    configuration: str
    split: str


def open_run(path: Path) -> RecordedRun:
    """The results at `path`: of a run directory, or of a directory that `harness.publish` wrote.

    Raises:
        OutputError: it is no run; another version of the harness wrote it; or what was published was changed since.
    """
    if is_published(path):
        return open_published(path)
    if (path / PUBLISHED_CHECKSUMS).is_file():
        raise OutputError(f"{path / ABOUT}: it is missing; fetch the published run again, or publish it anew")
    if not path.is_dir():
        what = "it is a file; name the directory of a run" if path.is_file() else "there is no such directory"
        raise OutputError(f"{path}: {what}")
    if not _is_run(path):
        there = sorted(str(inner) for inner in path.iterdir() if _is_run(inner) or is_published(inner))
        inside = f"; runs in it: {', '.join(there)}" if there else ""
        raise OutputError(f"{path}: it is neither a run nor a published one; run the experiment first{inside}")
    return StoredRun(path)


def _is_run(path: Path) -> bool:
    return (path / EXPERIMENT).is_file() or (path / "cells").is_dir()


def missing(run: RecordedRun) -> list[Place]:
    """The planned cells that have no record, in the order of the plan.

    Nothing is missing where the plan does not hold what was recorded: then it is another version's, or cannot be made.
    """
    there = {(row["configuration_id"], row["split"]) for row in run.results()}
    planned = {
        (cell["configuration_id"], cell["split"]): Place(cell["model"], cell["configuration"], cell["split"])
        for cell in run.planned()
    }
    return [place for key, place in planned.items() if key not in there] if there <= set(planned) else []


def published_points(run: RecordedRun) -> list[dict[str, Any]]:
    """The experiment's `[[point]]` tables: models that others measured, to be drawn beside the run's."""
    return run.experiment().get("point", []) if (run.path / EXPERIMENT).is_file() else []


def study_of(run: RecordedRun, rows: Sequence[Mapping[str, Any]] | None = None) -> Study:
    """The statistics of a run's finished cells; of `rows` of its results, or of all.

    Raises:
        OutputError: there are no results, or they cannot be read.
    """
    from harness.stats import Sample, Study

    found = run.results() if rows is None else rows
    return Study(found, lambda cell_id: Sample.from_rows(run.utterances(cell_id)))


def place_for(run: RecordedRun, name: str) -> Path:
    """Where a file that is made from results goes unless the user says otherwise.

    Beside them in a run directory; in `runs/` where they are published, since what is committed stays as it is.
    """
    if not isinstance(run, PublishedRun):
        return run.path / name
    return _RUNS / "published" / run.path.resolve().name / name
