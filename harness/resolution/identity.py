"""Cell identities: models, corpora and settings of an experiment, resolved and hashed to cell ids.

Resolving may read files and ask the hub; it loads no model and decodes no audio.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from backends import versions
from harness import datasets
from harness.datasets import Corpus
from harness.errors import ConfigError
from harness.experiment.cell import (
    SCHEMA_VERSION,
    Cell,
    Configuration,
    hash_of,
    id_of,
    identifying,
    settings_of,
    spec_columns,
)
from harness.experiment.config import Experiment
from harness.experiment.tables import DETECT, Data, Decoding, Model, scorer_of
from harness.resolution.architectures import ARCHITECTURES
from harness.resolution.batching import (
    BatchPlan,
    batch_plan,
    default_workers,
    drawn_speakers,
    fitting_batch_size,
    lengths_of,
    memory_of,
    speaker_plan,
)
from harness.resolution.calibration import calibration_corpus
from harness.resolution.checkpoints import ResolvedModel, resolve_model
from harness.resolution.languages import check_languages, languages_told, spoken

_UNNAMED = ("folder", "kaldi", "nemo")
"""Corpora in which an id tells nothing beyond its directory."""


Settle = Callable[[int | str, Callable[[], int]], int]


@dataclass(frozen=True)
class Resolved:
    """All that an experiment needs from disk or hub; calibration speech by the seed of its draw."""

    models: dict[Model, ResolvedModel]
    batch_size: int
    batches: dict[Data, BatchPlan]
    corpora: dict[Data, Corpus]
    calibration: dict[int | None, Corpus]


def resolve(experiment: Experiment, planned: Sequence[Configuration], settle: Settle) -> Resolved:
    """Find models and corpora of the planned configurations.

    Args:
        experiment: as its file says.
        planned: what is to be done of it.
        settle: gives the batch size: as asked, as the run has it already, or chosen now.

    Raises:
        ConfigError: calibration speech is also test speech, or languages cannot be scored as is asked.
        CheckpointNotFoundError, DataError, HubUnreachableError: something is not there.
    """
    models = {model: resolve_model(model) for model in dict.fromkeys(c.model for c in planned)}
    corpora = {data: datasets.load(data) for data in experiment.data}
    _check_different(corpora)
    for data, corpus in corpora.items():
        scorer = scorer_of(experiment.scoring, data, experiment.decoding)
        check_languages(corpus, data, experiment.decoding, scorer)
    calibration = {}
    if experiment.calibration is not None:
        for draw in experiment.calibration.draws:
            if draw.seed not in calibration:
                calibration[draw.seed] = calibration_corpus(experiment.calibration.drawn(draw))
                _check_disjoint(experiment.calibration.data, calibration[draw.seed], corpora)
    size = settle(experiment.decoding.batch_size, lambda: _fitting(experiment, planned, models))
    batches = {data: _batches(corpus, experiment, size) for data, corpus in corpora.items()}
    return Resolved(models, size, batches, corpora, calibration)


def _batches(corpus: Corpus, experiment: Experiment, size: int) -> BatchPlan:
    lengths = lengths_of(corpus.utterances)
    if experiment.decoding.batches == "length":
        return batch_plan(lengths, size)
    return speaker_plan(drawn_speakers(corpus.utterances, experiment.run.seed), lengths, size)


def _fitting(experiment: Experiment, planned: Sequence[Configuration], models: dict[Model, ResolvedModel]) -> int:
    """The batch size that fits every model on every device of the plan."""
    sizes = []
    for model, device in {(c.model, c.device) for c in planned}:
        workers = experiment.run.workers or default_workers([device])
        sizes.append(fitting_batch_size(models[model].directory, experiment.decoding, memory_of(device) // workers))
    return min(sizes)


def _check_disjoint(source: Data, calibration: Corpus, corpora: Mapping[Data, Corpus]) -> None:
    own = _recordings(source, calibration)
    for data, corpus in corpora.items():
        if own & _recordings(data, corpus):
            raise ConfigError(
                f"calibration.data: it shares utterances with the test set {data.label}; choose another split"
            )


def _check_different(corpora: Mapping[Data, Corpus]) -> None:
    """Refuse one test set under two names, unless its language is told under one and detected under the other."""
    for (one, own), (other, others) in itertools.combinations(corpora.items(), 2):
        if (one.language == DETECT) != (other.language == DETECT) or _in_parts(own) != _in_parts(others):
            continue
        shared = _recordings(one, own) & _recordings(other, others)
        if len(shared) >= len(own.utterances) == len(others.utterances) and own.condition == others.condition:
            raise ConfigError(f"data: {one.label} and {other.label} are the same recordings; name one test set once")


def _in_parts(corpus: Corpus) -> bool:
    """Whether it is joined from other recordings, or cut."""
    return any(utterance.parts for utterance in corpus.utterances)


def _recordings(data: Data, corpus: Corpus) -> set[str]:
    """What tells recordings apart: what is in local ones, and the ids that corpora with names give theirs."""
    name = datasets.get(data.dataset).corpus(data)
    own = (id for utterance in corpus.utterances for id in utterance.parts or [utterance.id])
    ids = set() if data.dataset in _UNNAMED else {f"{name} {id}" for id in own}
    if corpus.commit:
        return ids
    sources = {id(one): one for utterance in corpus.utterances for one in utterance.sources}
    return ids | set(corpus.digests) | {one.digest() for one in sources.values()}


def cells_of(configuration: Configuration, experiment: Experiment, resolved: Resolved) -> list[Cell]:
    """The cells of one configuration, one for every split of the experiment, identified."""
    cells = []
    for data in experiment.data:
        batches = resolved.batches[data]
        identity = _identity(configuration, experiment, resolved, data, batches)
        cells.append(Cell(configuration, data, identity, id_of(identity), batches))
    return cells


def _identity(
    configuration: Configuration,
    experiment: Experiment,
    resolved: Resolved,
    data: Data,
    batches: BatchPlan,
) -> dict[str, Any]:
    model, corpus = resolved.models[configuration.model], resolved.corpora[data]
    decoding = experiment.decoding.model_copy(update={"batch_size": resolved.batch_size})
    calibrated = configuration.calibrates and experiment.calibration is not None
    return {
        "schema": SCHEMA_VERSION,
        "model": {"revision": model.revision, "dtype": configuration.model.dtype},
        "spec": {k: v for k, v in identifying(spec_columns(configuration)).items() if k != "model"},
        "versions": versions_of(configuration.backend),
        "machine": platform.machine(),
        "data": {"id": corpus.id, "revision": corpus.revision, "split": data.split, **_condition(corpus)},
        "batches": hash_of(batches),
        **settings_of(decoding, experiment.calibration if calibrated else None),
        **_rate(model.family, decoding),
        **_languages(corpus, data, decoding),
        "calibration_speech": _speech(resolved.calibration[configuration.draw.seed]) if calibrated else None,
        "threads": experiment.run.threads_per_worker,
        "seed": experiment.run.seed,
        **_scoring(corpus, data, experiment),
    }


def _languages(corpus: Corpus, data: Data, decoding: Decoding) -> dict[str, str]:
    """What the decoder is told, where it is not `decoding.language` for all: a code, or a hash of each utterance's.

    Where languages are detected, also which they are, if there are several: what is detected is held against these.
    """
    told = languages_told(corpus, data, decoding)
    found = {} if set(told) <= {decoding.code} else {"language": told[0] if len(set(told)) == 1 else hash_of(told)}
    own = [spoken(utterance, decoding) for utterance in corpus.utterances] if DETECT in told else []
    return found if len(set(own)) < 2 else found | {"spoken": hash_of(own)}


def _scoring(corpus: Corpus, data: Data, experiment: Experiment) -> dict[str, Any]:
    """The normaliser's version, of several by language; and the unit, where that is not the word."""
    scorer = scorer_of(experiment.scoring, data, experiment.decoding)
    said = {spoken(utterance, experiment.decoding) for utterance in corpus.utterances}
    languages = sorted(filter(None, said)) or [scorer.language]
    versions = {language: scorer.normaliser(language).version for language in languages}
    unit = scorer.unit(languages[0])
    one = len(set(versions.values())) == 1
    return {
        "normaliser": versions[languages[0]] if one else versions,
        **({} if unit == "word" else {"error_unit": unit}),
    }


def _rate(family: str, decoding: Decoding) -> dict[str, float]:
    """Tokens a second that cap each utterance, where there is such a cap."""
    rate = decoding.tokens_per_second or (ARCHITECTURES[family].tokens_per_second if family in ARCHITECTURES else None)
    return {"tokens_per_second": rate} if rate else {}


def _speech(corpus: Corpus) -> dict[str, Any]:
    samples = hash_of([u.id for u in corpus.utterances])
    return {"id": corpus.id, "revision": corpus.revision, "samples": samples, **_condition(corpus)}


def _condition(corpus: Corpus) -> dict[str, Any]:
    """What is done to the recordings; nothing where nothing is, so that such cells keep their ids."""
    return {"condition": corpus.condition} if corpus.condition else {}


@cache
def versions_of(backend: str) -> dict[str, str]:
    """Versions of the packages that can change a hypothesis of a backend's cells."""
    return _versions() | versions(backend)


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers", "numpy", "soundfile", "soxr")}
