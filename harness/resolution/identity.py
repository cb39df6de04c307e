"""Who is who: models to directories, corpora to samples, and both with all settings to cell ids.

Resolving may read files and ask the hub; it loads no model and decodes no audio.
"""

from __future__ import annotations

import hashlib
import itertools
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from backends import versions
from backends.core.inspection import PROCESSOR_FILES, check_files, check_recognizer, read
from harness import datasets
from harness._hub import model_snapshot
from harness.datasets import Corpus
from harness.embedded import MODEL_DIRECTORY, MODELS, PLANTED
from harness.errors import CheckpointNotFoundError, ConfigError
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
from harness.experiment.tables import Data, Decoding, Model
from harness.metrics import Normaliser
from harness.resolution.architectures import ARCHITECTURES
from harness.resolution.batching import (
    BatchPlan,
    batch_plan,
    default_workers,
    fitting_batch_size,
    lengths_of,
    memory_of,
)
from harness.resolution.calibration import calibration_corpus

_UNNAMED = ("folder", "kaldi", "nemo")
"""Corpora in which an id tells nothing beyond its directory."""
_VOCABULARIES = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True)
class ResolvedModel:
    """A model's files.

    Attributes:
        directory: where they lie.
        revision: what identifies them: a commit of the hub or a hash of the contents.
        family: `model_type` of its configuration.
    """

    directory: Path
    revision: str
    family: str


def resolve_model(model: Model) -> ResolvedModel:
    """Find the files of `model`: the embedded one or its outlier variants, a local directory, or a snapshot of the hub.

    Raises:
        CheckpointNotFoundError: it is nowhere, or lacks its configuration, processor or safetensors.
        HubUnreachableError: it is on the hub only, and that is out of reach.
    """
    planted, local = PLANTED.get(model.path), local_directory(model)
    if local.is_dir():
        _check_files(local)
        contents = _contents_hash(local.resolve())
        revision = contents if planted is None else f"{contents}-outliers-{planted:g}"
        return ResolvedModel(local.resolve(), revision, _family(local))
    _check_hub_name(model)
    snapshot = model_snapshot(model.path, model.revision)
    _check_files(snapshot)
    return ResolvedModel(snapshot, snapshot.name, _family(snapshot))


def _family(directory: Path) -> str:
    return str(read(directory / "config.json").get("model_type", ""))


def check_local(model: Model) -> None:
    """Look at what a model's directory says, without reading weights; one of the hub is not asked for.

    Raises:
        CheckpointNotFoundError, CheckpointError: it is not there, lacks a part, or has parts of several models.
    """
    local = local_directory(model)
    if local.is_dir():
        check_parts(local)
    else:
        _check_hub_name(model)


def check_parts(directory: Path) -> None:
    """Look at what a checkpoint says of itself, without reading weights.

    Raises:
        CheckpointNotFoundError, CheckpointError: it lacks a part, or its parts are of several models.
    """
    _check_files(directory)
    check_files(directory)
    check_recognizer(directory)


def _check_hub_name(model: Model) -> None:
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", model.path, re.ASCII) or ".." in model.path or "--" in model.path:
        raise CheckpointNotFoundError(f"model.path {model.path!r}: there is no such directory")


def local_directory(model: Model) -> Path:
    """Where a model lies on this machine, if it does: with the package, or where `path` says."""
    return MODEL_DIRECTORY if model.path in PLANTED else MODELS.get(model.path) or _expanded(model.path)


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _check_files(directory: Path) -> None:
    if not (directory / "config.json").is_file():
        raise CheckpointNotFoundError(f"{directory}: there is no config.json; it is not a transformers checkpoint")
    check_processor(directory)
    if not any(directory.glob("*.safetensors")):
        raise CheckpointNotFoundError(f"{directory}: there are no weights in safetensors; convert the checkpoint first")


def check_processor(directory: Path) -> None:
    """Refuse a directory in which transformers would make up a tokenizer without words, or find no processor.

    Raises:
        CheckpointNotFoundError: with the files that are missing.
    """
    for what, names in (
        ("processor", PROCESSOR_FILES),
        ("tokenizer", _VOCABULARIES),
        ("tokenizer's settings", ("tokenizer_config.json",)),
    ):
        if not any((directory / name).is_file() for name in names):
            raise CheckpointNotFoundError(
                f"{directory}: there is no {what} ({' or '.join(names)}): save the processor there with save_pretrained"
            )


@cache
def _contents_hash(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in directory.iterdir() if p.suffix in (".json", ".txt", ".safetensors")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


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
        ConfigError: calibration speech is also test speech.
        CheckpointNotFoundError, DataError, HubUnreachableError: something is not there.
    """
    models = {model: resolve_model(model) for model in dict.fromkeys(c.model for c in planned)}
    corpora = {data: datasets.get(data.dataset).load(data) for data in experiment.data}
    _check_different(corpora)
    calibration = {}
    if experiment.calibration is not None:
        for draw in experiment.calibration.draws:
            if draw.seed not in calibration:
                calibration[draw.seed] = calibration_corpus(experiment.calibration.drawn(draw))
                _check_disjoint(experiment.calibration.data, calibration[draw.seed], corpora)
    size = settle(experiment.decoding.batch_size, lambda: _fitting(experiment, planned, models))
    batches = {data: batch_plan(lengths_of(corpus.utterances), size) for data, corpus in corpora.items()}
    return Resolved(models, size, batches, corpora, calibration)


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
    """Refuse one test set under two names, which would count twice in a mean."""
    for (one, own), (other, others) in itertools.combinations(corpora.items(), 2):
        shared = _recordings(one, own) & _recordings(other, others)
        if len(shared) >= len(own.utterances) == len(others.utterances):
            raise ConfigError(f"data: {one.label} and {other.label} are the same recordings; name one test set once")


def _recordings(data: Data, corpus: Corpus) -> set[str]:
    """What tells recordings apart: what is in local ones, and the ids that corpora with names give theirs."""
    name = datasets.get(data.dataset).corpus(data)
    ids = set() if corpus.id in _UNNAMED else {f"{name} {utterance.id}" for utterance in corpus.utterances}
    return ids if corpus.commit else ids | set(corpus.digests)


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
        "data": {"id": corpus.id, "revision": corpus.revision, "split": data.split},
        "batches": hash_of(batches),
        **settings_of(decoding, experiment.calibration if calibrated else None),
        **_rate(model.family, decoding),
        "calibration_speech": _speech(resolved.calibration[configuration.draw.seed]) if calibrated else None,
        "threads": experiment.run.threads_per_worker,
        "seed": experiment.run.seed,
        "normaliser": Normaliser(experiment.scoring.normalizer).version,
    }


def _rate(family: str, decoding: Decoding) -> dict[str, float]:
    """Tokens a second that cap each utterance, where there is such a cap."""
    rate = decoding.tokens_per_second or (ARCHITECTURES[family].tokens_per_second if family in ARCHITECTURES else None)
    return {"tokens_per_second": rate} if rate else {}


def _speech(corpus: Corpus) -> dict[str, Any]:
    return {"id": corpus.id, "revision": corpus.revision, "samples": hash_of([u.id for u in corpus.utterances])}


@cache
def versions_of(backend: str) -> dict[str, str]:
    """Versions of the packages that can change a hypothesis of a backend's cells."""
    return _versions() | versions(backend)


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers", "numpy", "soundfile", "soxr")}
