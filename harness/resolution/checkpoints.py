"""Where the files of a model lie, what they say of it, and what tells one state of them from another."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.core.errors import did_you_mean
from backends.core.inspection import PROCESSOR_FILES, check_files, check_recognizer, read
from harness._hub import model_snapshot
from harness.embedded import MODEL_DIRECTORY, MODELS, PLANTED
from harness.errors import CheckpointNotFoundError, ConfigError
from harness.experiment.tables import Decoding, Model
from harness.resolution.architectures import ARCHITECTURES

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


def check_local(model: Model, decoding: Decoding) -> None:
    """Look at what a model's directory says, without reading weights; one of the hub is not asked for.

    Raises:
        CheckpointNotFoundError, CheckpointError: it is not there, lacks a part, or has parts of several models.
    """
    local = local_directory(model)
    if local.is_dir():
        check_parts(local, decoding)
    else:
        _check_hub_name(model)


def check_parts(directory: Path, decoding: Decoding) -> None:
    """Look at what a checkpoint says of itself, without reading weights.

    Raises:
        CheckpointNotFoundError, CheckpointError: it lacks a part, or its parts are of several models.
        ConfigError: it has no room for as many tokens as may be asked for.
    """
    _check_files(directory)
    check_files(directory)
    check_recognizer(directory)
    config = read(directory / "config.json")
    architecture = ARCHITECTURES.get(config.get("model_type", ""))
    room = None if architecture is None else architecture.room(config)
    if room is not None and decoding.max_new_tokens > room:
        raise ConfigError(
            f"decoding.max_new_tokens is {decoding.max_new_tokens}, and {directory} has room for {room} tokens"
        )


_HUB_NAME = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


def _check_hub_name(model: Model) -> None:
    if Path(model.path).is_file():
        raise CheckpointNotFoundError(f"model.path {model.path!r}: it is a file; name the directory of the model")
    if not _HUB_NAME.fullmatch(model.path) or ".." in model.path or "--" in model.path:
        near = did_you_mean(model.path, [*MODELS, *PLANTED])
        hub = "" if model.path.startswith((".", "/", "~")) else ", and names on the hub are OWNER/NAME"
        raise CheckpointNotFoundError(f"model.path {model.path!r}: there is no such directory{hub}{near}")


def local_directory(model: Model) -> Path:
    """Where a model lies on this machine, if it does: with the package, or where `path` says."""
    return MODEL_DIRECTORY if model.path in PLANTED else MODELS.get(model.path) or _expanded(model.path)


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_config(directory: Path) -> None:
    """Refuse a directory without a model's configuration.

    Raises:
        CheckpointNotFoundError: there is none.
    """
    if not (directory / "config.json").is_file():
        raise CheckpointNotFoundError(f"{directory}: there is no config.json; it is not a transformers checkpoint")


def _check_files(directory: Path) -> None:
    check_config(directory)
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
