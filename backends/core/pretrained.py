"""Checkpoints of transformers, read from a directory: safetensors only, whole, and without running code of theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.core.errors import CheckpointError, ModelError
from backends.core.inspection import check_files

_MOOT = (
    # of Whisper's own `generate`, which hands its settings on in both ways
    "Passing `generation_config` together with generation-related arguments",
    # of what is a window of features: it has no padding that a mask could tell
    "The attention mask is not set with a batched input",
    # the checkpoint's own cap; that ours takes precedence is what is wanted
    "Both `max_new_tokens` (=",
)
"""How messages of transformers' `generate` begin that no argument of ours can mend."""


def check_device(device: str) -> None:
    """Raise `ModelError` where `device` is `cuda` and there is none."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "--device cuda: no GPU can be used here, since this torch has no CUDA or sees no GPU; leave --device out"
        )


def hush_transformers() -> None:
    """Let through errors of transformers only, and no progress bars; for commands, whose output is their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def quiet_generation() -> Iterator[None]:
    """Keep back what `generate` says of every batch and no caller can mend; all else passes, and nothing stays set."""

    def tells(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_MOOT)

    logger = logging.getLogger("transformers.generation.utils")
    logger.addFilter(tells)
    try:
        yield
    finally:
        logger.removeFilter(tells)


@contextmanager
def without_bars() -> Iterator[None]:
    """Draw no progress bars of transformers in the block."""
    from transformers.utils import logging

    def hidden(bar: Callable[..., Any], arguments: Sequence[Any], settings: Mapping[str, Any]) -> Any:
        return bar(*arguments, **{**settings, "disable": True})

    before = logging.set_tqdm_hook(hidden)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


def load_pretrained(model_class: Any, directory: Path, dtype: Any) -> Any:
    """An instance of a model class of transformers, `Auto` ones included, with the weights of a checkpoint.

    Raises:
        CheckpointError: it cannot be read; its weights are not all that the model has, of other shapes, or more than it
            takes; it holds an adapter or is quantized already.
    """
    check_files(directory)
    return _read(model_class, directory, dtype=dtype).eval()


def inspect_weights(model_class: Any, directory: Path) -> Any:
    """Compare the names and shapes of a checkpoint's weights with what the model takes; none is read.

    Returns:
        The model on torch's meta device, with its configurations.

    Raises:
        CheckpointError: as for `load_pretrained`.
    """
    check_files(directory)
    return _read(model_class, directory, device_map="meta")


def _read(model_class: Any, directory: Path, **settings: Any) -> Any:
    from safetensors import SafetensorError

    try:
        with without_bars():
            model, found = model_class.from_pretrained(
                directory,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **settings,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: cannot be loaded: {str(error).splitlines()[0]}") from error
    absent = sorted([*found["missing_keys"], *(str(key[0]) for key in found["mismatched_keys"])])
    if absent:
        raise CheckpointError(f"{directory}: the weights lack {_some(absent)}, or have them in other shapes")
    if found["unexpected_keys"]:
        raise CheckpointError(
            f"{directory}: the model of config.json does not take {_some(sorted(found['unexpected_keys']))}, which "
            "would be ignored; correct config.json, or save the model with what belongs to it (adapters merged)"
        )
    return model


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
