"""Encoder states that several configurations share: computed by the first one that needs them, then read by the others.

Two encoders are the same where all that decides their states hashes alike (`backends.core.fingerprint`), never where
names do. States lie in the run directory, a file for each batch, for as long as a cell that may need them is missing.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from harness.experiment.cell import hash_of
from harness.recognition.tensors import load_tensors, save_tensors
from harness.records.files import seal, sealed
from harness.records.layout import ENCODER_STATES

_SUFFIX = ".safetensors"


class EncoderStates:
    """The states of one encoder for one split.

    Args:
        run_directory: of the run; states of other machines, whose arithmetic may differ, are apart.
        group: names the cells that may share: those of one split with the same model.
        fingerprint: of the encoder.
        limit: bytes that all states of the run may take; beyond, none are kept.
        wanted: whether a cell that may read them is missing.
    """

    def __init__(
        self, run_directory: Path, group: str, fingerprint: str, limit: int, wanted: Callable[[], bool]
    ) -> None:
        self._all = run_directory / ENCODER_STATES
        self._directory = self._all / hash_of([platform.node(), group])
        self._fingerprint, self._limit, self._wanted = fingerprint, limit, wanted

    def of(self, batch: Any, encode: Callable[[], Any], device: torch.device) -> tuple[Any, bool]:
        """States of a batch, and whether they were read: as they were kept, or computed now and kept.

        One process at a time computes the states of a batch; others wait for it.

        Args:
            batch: JSON value that names the batch and how it was prepared.
            encode: computes them: what the encoder returns, a dataclass of tensors.
            device: where the caller's model is, and states that were read are put.
        """
        key = hash_of([self._fingerprint, batch])
        path = sealed(self._directory, key, _SUFFIX)
        if path is not None:
            return _load(path, device), True
        if not self._wanted():
            return encode(), False
        with self._locked(key):
            path = sealed(self._directory, key, _SUFFIX)
            if path is not None:
                return _load(path, device), True
            states = encode()
            if self._wanted() and self._size() + sum(tensor.nbytes for tensor in states.values()) <= self._limit:
                seal(self._directory, key, _SUFFIX, partial(_save, states))
            return states, False

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        place = os.open(self._directory / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(place, fcntl.LOCK_EX)
            yield
        finally:
            os.close(place)

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self._all.glob(f"*/*{_SUFFIX}"))

    def remove(self) -> None:
        """Remove the states of the split where no cell is left that may read them."""
        if self._wanted():
            return
        for path in self._directory.glob("*"):
            path.unlink(missing_ok=True)


def _save(states: Any, path: Path) -> None:
    kind = type(states)
    save_tensors(path, states, {"module": kind.__module__, "class": kind.__name__})


def _load(path: Path, device: torch.device) -> Any:
    tensors, about = load_tensors(path)
    kind = getattr(import_module(about["module"]), about["class"])
    return kind(**{name: tensor.to(device) for name, tensor in tensors.items()})


@contextmanager
def given(encoder: Any, states: Any) -> Iterator[None]:
    """In the block the encoder gives these states, whatever it is called with."""
    encoder.forward = lambda *_, **__: states
    try:
        yield
    finally:
        del encoder.forward
