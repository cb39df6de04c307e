"""The head of the page: what was run, on what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from harness._printing import counted
from harness.records.reading import missing
from harness.report.page._run import PageRun
from harness.report.unfinished import unfinished_sentence


@dataclass(frozen=True)
class Split:
    """A test set: the sums of its references; all zero where no cell of it is done."""

    name: str
    dataset: str
    utterances: int
    words: int
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
        "what quantization costs in word errors, and what it saves in bytes.",
        tuple(dict.fromkeys(_model(row["model"], row["revision"]) for row in run.rows)),
        tuple(str(name) for name in run.levels("backend") if name not in ("none", "cast")),
        tuple(_split(run, name) for name in run.splits),
        ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in statuses.items()),
        _date(run),
        _unfinished(run),
    )


def _model(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name} ({revision[:12]})"


def _split(run: PageRun, name: str) -> Split:
    dataset = next(row["dataset"] for row in run.rows if row["split"] == name)
    row = next((row for row in run.study.scored if row["split"] == name), None)
    if row is None:
        return Split(name, dataset, 0, 0, 0)
    sample = run.study.sample(row["cell_id"])
    speakers = {utterance.speaker for utterance in sample.utterances} - {None}
    return Split(name, dataset, len(sample.utterances), sample.total.reference, len(speakers))


def _unfinished(run: PageRun) -> str:
    """The planned cells that have no record; empty where all have one."""
    places = missing(run.stored)
    return unfinished_sentence(run.stored, places) if places else ""


def _date(run: PageRun) -> str:
    """The day on which the last cell was finished; empty where no cell tells."""
    done = [run.stored.environment(row["cell_id"]).get("finished") for row in run.study.rows]
    last = max((text for text in done if text), default=None)
    return "" if last is None else f"{int(last[8:10])} {datetime.fromisoformat(last):%B %Y}"
