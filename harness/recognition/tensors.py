"""Tensors in files that workers share: written whole, and mapped into memory when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors with what is to be known of them.

    Raises:
        OSError: they cannot be written; safetensors has an error of its own for it.
    """
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(about))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, mapped, and what was written with them."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a method, not a mapping's)
        return tensors, file.metadata()
