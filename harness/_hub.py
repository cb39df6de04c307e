"""The model hub, reached through its own client: commits, snapshots, and what to say when it is out of reach."""

from __future__ import annotations

from pathlib import Path

from harness.errors import CheckpointNotFoundError, HubUnreachableError

_MODEL_FILES = ["*.json", "*.txt", "*.safetensors"]


def model_snapshot(repository: str, revision: str | None) -> Path:
    """Local directory of a model on the hub, downloaded when the cache lacks it; its name is the commit.

    Raises:
        HubUnreachableError: the hub is out of reach and the cache has no copy.
        CheckpointNotFoundError: the hub has no such model or revision.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_MODEL_FILES))
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise CheckpointNotFoundError(f"model {repository!r}: neither a local directory nor a model on the hub") from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise HubUnreachableError(offline_sentence(repository)) from error


def dataset_commit(repository: str, revision: str | None) -> str:
    """The commit of a data set on the hub, from the cache where the hub is out of reach.

    Raises:
        HubUnreachableError: neither knows it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=["README.md"])
    except (LocalEntryNotFoundError, OSError) as error:
        raise HubUnreachableError(offline_sentence(repository)) from error
    return Path(snapshot).name


def offline_sentence(repository: str) -> str:
    """What a user is told who has no hub."""
    return (
        f"{repository} is not in the cache and the model hub cannot be reached: try "
        'experiments/embedded.toml, which needs no network, or give model = "path/to/directory"'
    )
