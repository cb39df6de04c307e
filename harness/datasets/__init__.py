"""Corpora by name: the public modules of this package, and what others offer by entry point."""

from __future__ import annotations

import pkgutil
from functools import cache, partial
from importlib import import_module, metadata

from backends.core.errors import did_you_mean
from harness.datasets._audio import SAMPLE_RATE, Waveform
from harness.datasets._base import Corpus, Dataset, Extent, Utterance, check_split, corpus_of
from harness.datasets._conditioned import check_noise, conditioned
from harness.datasets._cut import cut
from harness.datasets._joined import joined
from harness.errors import ConfigError
from harness.experiment.tables import Data

ENTRY_POINT_GROUP = "asrquant.datasets"

__all__ = [
    "SAMPLE_RATE",
    "Corpus",
    "Data",
    "Dataset",
    "Extent",
    "Utterance",
    "Waveform",
    "available",
    "check_noise",
    "check_split",
    "corpus_of",
    "get",
    "load",
]


def available() -> list[str]:
    """Names of all corpora, sorted; none is imported."""
    built_in = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return sorted({*built_in, *(point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP))})


def get(name: str) -> Dataset:
    """Return the corpus called `name`.

    Raises:
        ConfigError: there is none; the nearest name is proposed.
    """
    if name not in available():
        raise ConfigError(
            f"unknown dataset {name!r}; there are {', '.join(available())}{did_you_mean(name, available())}"
        )
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            plugged: Dataset = point.load()
            return plugged
    dataset: Dataset = import_module(f"harness.datasets.{name}").DATASET
    return dataset


def load(data: Data, *, cached_only: bool = False) -> Corpus:
    """The utterances that `data` asks for, cut and joined if it says so, under its condition.

    With `cached_only` without network.

    Raises:
        ConfigError: there is no such data set.
        DataError: files are missing or empty, the split is unknown, or the noise is.
        HubUnreachableError: neither the hub nor the cache has it.
    """
    dataset = get(data.dataset)
    if data.alignments is None:
        corpus = dataset.load(data, cached_only=cached_only)
    else:
        whole_ones = data.model_copy(update={"limit": None, "max_seconds": None})
        corpus = cut(dataset.load(whole_ones, cached_only=cached_only), data)
    if data.join_seconds is not None:
        assert isinstance(data.join_seconds, float)
        corpus = joined(corpus, data.join_seconds, data.seed)
    whole = Data(dataset=data.dataset, split=data.split, root=data.root, revision=data.revision, language=data.language)
    return conditioned(corpus, data, partial(_whole, whole, cached_only=cached_only))


@cache
def _whole(data: Data, *, cached_only: bool) -> Corpus:
    """A whole split, whose utterances babble behind others."""
    return get(data.dataset).load(data, cached_only=cached_only)
