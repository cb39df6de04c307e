"""The note that stands beside published transcripts: under which terms the texts of each test set are passed on."""

from __future__ import annotations

from collections.abc import Sequence

from harness import datasets
from harness.experiment.config import Experiment

_HEAD = """Results of the experiment {name}, measured with asrquant.

The reference texts in references.parquet, with the ids of utterances and speakers, are those of these test sets. No
recording is here. The transcripts in utterances.parquet are what speech recognisers made of the recordings.
"""


def licence_note(experiment: Experiment) -> str:
    """The terms of every test set, as its corpus states them, and of the models that have conditions."""
    by_corpus: dict[str, list[str]] = {}
    for data in experiment.data:
        by_corpus.setdefault(data.dataset, []).append(data.split)
    lines = [_of_corpus(name, splits) for name, splits in by_corpus.items()]
    lines += [f"Model {model.path}: {model.license}" for model in experiment.model if model.license]
    return "\n".join([_HEAD.format(name=experiment.name), *lines]) + "\n"


def _of_corpus(name: str, splits: Sequence[str]) -> str:
    """What a corpus states in its attribute `licence`; one that comes from elsewhere may have none."""
    stated = getattr(datasets.get(name), "licence", None)
    return f"{name} ({', '.join(splits)}): {stated or 'the corpus states no licence; ask before you pass its texts on'}"
