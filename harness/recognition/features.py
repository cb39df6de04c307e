"""Features of prepared speech: computed once a run, then mapped into memory by every worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from backends.core.inspection import PROCESSOR_FILES
from harness.experiment.cell import Cell, hash_of
from harness.recognition.tensors import load_tensors, save_tensors
from harness.records.files import seal, sealed

_SUFFIX = ".safetensors"
_PREPARING = ("transformers", "numpy", "soundfile", "soxr")
"""Packages whose releases may change features."""


@dataclass(frozen=True)
class Group:
    """Utterances of a batch that go through the model together.

    Attributes:
        rows: their places in the batch.
        whole: whether they are longer than a window and decoded whole: window after window, or one utterance in pieces.
        inputs: arguments of `generate`, float32 on the processor; of pieces one row each.
    """

    rows: tuple[int, ...]
    whole: bool
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class PreparedBatch:
    """A batch of utterances.

    Attributes:
        samples: of every utterance at 16 kHz.
        estimated_snr_db: of every utterance.
        groups: those decoded in one pass first, then those decoded in several.
        seconds: that it took to prepare it, or to find it ready.
        errors: by place in the batch, why an utterance cannot be decoded; silence takes its place.
    """

    samples: tuple[int, ...]
    estimated_snr_db: tuple[float, ...]
    groups: tuple[Group, ...]
    seconds: float
    errors: Mapping[int, str] = field(default_factory=dict)


class FeatureStore:
    """Prepared batches in a directory; any number of processes may use it at once.

    Args:
        directory: made when something is kept.
        model_directory: whose processor prepares; its configuration is part of a batch's key.
    """

    def __init__(self, directory: Path, model_directory: Path) -> None:
        self._directory = directory
        paths = [model_directory / name for name in PROCESSOR_FILES]
        self._processor = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]

    def batch(self, cell: Cell, ids: Sequence[str], prepare: Callable[[], PreparedBatch]) -> PreparedBatch:
        """A planned batch of a cell: as it was kept, or prepared now and kept."""
        identity = cell.identity
        versions = {name: identity["versions"][name] for name in _PREPARING}
        key = [self._processor, identity["data"], identity["decoding"]["long_audio"], versions, list(ids)]
        path = sealed(self._directory, hash_of(key), _SUFFIX)
        if path is not None:
            return _load(path)
        prepared = prepare()
        seal(self._directory, hash_of(key), _SUFFIX, partial(_save, prepared))
        return prepared


def _load(path: Path) -> PreparedBatch:
    began = time.perf_counter()
    tensors, metadata = load_tensors(path)
    about = json.loads(metadata["about"])
    groups = tuple(
        Group(tuple(group["rows"]), group["whole"], {key: tensors[f"{i}.{key}"] for key in group["inputs"]})
        for i, group in enumerate(about["groups"])
    )
    samples, noise = tuple(about["samples"]), tuple(about["estimated_snr_db"])
    errors = {int(place): reason for place, reason in about["errors"].items()}
    return PreparedBatch(samples, noise, groups, time.perf_counter() - began, errors)


def _save(prepared: PreparedBatch, path: Path) -> None:
    about: dict[str, Any] = {
        "samples": prepared.samples,
        "estimated_snr_db": prepared.estimated_snr_db,
        "errors": dict(prepared.errors),
        "groups": [{"rows": g.rows, "whole": g.whole, "inputs": list(g.inputs)} for g in prepared.groups],
    }
    tensors = {f"{i}.{key}": t for i, g in enumerate(prepared.groups) for key, t in g.inputs.items()}
    save_tensors(path, tensors, {"about": json.dumps(about)})
