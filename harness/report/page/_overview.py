"""The head of the page: what was run, on what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from harness._printing import counted
from harness.embedded import MODELS, PLANTED
from harness.records.reading import missing
from harness.report.page._run import PageRun
from harness.report.unfinished import unfinished_sentence
from harness.report.units import unit_of


@dataclass(frozen=True)
class Split:
    """A test set: how it is scored, and the sums of its references, all zero where no cell of it is done.

    Attributes:
        scoring: language and normaliser.
        size: of the references, in words or characters.
    """

    name: str
    dataset: str
    scoring: str
    utterances: int
    size: str
    speakers: int


@dataclass(frozen=True)
class Overview:
    """What the head of the page says."""

    name: str
    summary: str
    models: tuple[str, ...]
    libraries: tuple[str, ...]
    splits: tuple[Split, ...]
    statuses: str
    date: str
    unfinished: str


def overview(run: PageRun) -> Overview:
    """The head of the page."""
    statuses = Counter(row["status"] for row in run.rows)
    configurations = len(run.levels("configuration_id"))
    return Overview(
        run.name,
        f"{counted(configurations, 'configuration')} on {counted(len(run.splits), 'test set')}: "
        f"what quantization costs in {run.unit.noun} errors, and what it saves in bytes.",
        tuple(dict.fromkeys(_model(row["model"], row["revision"]) for row in run.rows)),
        tuple(str(name) for name in run.levels("backend") if name not in ("none", "cast")),
        tuple(_split(run, name) for name in run.splits),
        ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in statuses.items()),
        _date(run),
        _unfinished(run),
    )


def _model(name: str, revision: str | None) -> str:
    if name in MODELS or name in PLANTED:
        return f"{name}, a small model of synthesised speech, for trying out"
    return name if revision is None else f"{name} ({revision[:12]})"


def _split(run: PageRun, name: str) -> Split:
    any_row = next(row for row in run.rows if row["split"] == name)
    dataset, scoring = any_row["dataset"], f"{any_row['language']}, normaliser {any_row['normalizer']}"
    row = next((row for row in run.study.rows if row["split"] == name), None)
    if row is None:
        return Split(name, dataset, scoring, 0, "", 0)
    sample = run.study.sample(row["cell_id"])
    speakers = {utterance.speaker for utterance in sample.utterances} - {None}
    size = counted(sample.total.reference, unit_of([row]).noun)
    return Split(name, dataset, scoring, len(sample.utterances), size, len(speakers))


def _unfinished(run: PageRun) -> str:
    """The planned cells that have no record; empty where all have one."""
    places = missing(run.stored)
    return unfinished_sentence(run.stored, places) if places else ""


def _date(run: PageRun) -> str:
    """The day on which the last cell was finished; empty where no cell tells."""
    done = [run.stored.environment(row["cell_id"]).get("finished") for row in run.study.rows]
    last = max((text for text in done if text), default=None)
    return "" if last is None else f"{int(last[8:10])} {datetime.fromisoformat(last):%B %Y}"
