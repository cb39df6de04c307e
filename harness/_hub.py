"""The model hub, reached through its own client: commits, snapshots, and what to say when it is out of reach."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CheckpointNotFoundError, HubUnreachableError

_MODEL_FILES = ["*.json", "*.txt", "*.safetensors"]


def model_snapshot(repository: str, revision: str | None) -> Path:
    """Local directory of a model on the hub, downloaded when the cache lacks it; its name is the commit.

    Raises:
        HubUnreachableError: the hub is out of reach and the cache has no copy.
        CheckpointNotFoundError: the hub has no such model or revision.
    """
    return _snapshot(repository, revision, _MODEL_FILES, "model", cached_only=False)


def dataset_snapshot(repository: str, revision: str | None, patterns: Sequence[str], *, cached_only: bool) -> Path:
    """Local directory with the card and some files of a data set on the hub; its name is the commit.

    Raises:
        HubUnreachableError: the hub is out of reach and the cache has no copy.
        CheckpointNotFoundError: the hub has no such data set or revision.
    """
    return _snapshot(repository, revision, ["README.md", *patterns], "dataset", cached_only=cached_only)


def _snapshot(repository: str, revision: str | None, patterns: Sequence[str], kind: str, *, cached_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        snapshot = snapshot_download(
            repository, repo_type=kind, revision=revision, allow_patterns=list(patterns), local_files_only=cached_only
        )
    except GatedRepoError:
        raise CheckpointNotFoundError(f"{kind} {repository!r}: gated; accept its terms on the hub and log in") from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise CheckpointNotFoundError(f"{kind} {repository!r}: neither a local directory nor on the hub") from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise HubUnreachableError(offline_sentence(repository, kind)) from error
    return Path(snapshot)


def offline_sentence(repository: str, kind: str) -> str:
    """What a user is told who has no hub; of a `model` or a `dataset`."""
    key = "path" if kind == "model" else "root"
    table = "[[model]]" if kind == "model" else "[[data]]"
    return (
        f"{repository} is no directory here, it is not in the cache, and the hub cannot be reached: try the "
        f'experiment embedded, which needs no network, or give {key} = "path/to/directory" in {table}'
    )
