"""How utterances are put into batches, and how many fit; decided before a run, because it may change hypotheses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets import Utterance
from harness.errors import CheckpointNotFoundError, ConfigError, DataError
from harness.experiment.tables import Decoding
from harness.resolution.architectures import ARCHITECTURES

BatchPlan = tuple[tuple[str, ...], ...]
"""Ids of the utterances of every batch."""
_LARGEST = 256
_SHARE = 0.5
"""Of the memory; the rest is for what libraries keep beside weights and activations."""


def batch_plan(lengths: Mapping[str, float], batch_size: int) -> BatchPlan:
    """Cut utterances into batches, from the longest to the shortest, those of one length in the order of their ids.

    A batch is decoded until its last transcript ends, so that utterances of like length belong together.

    >>> batch_plan({"b": 0.0, "a": 0.0, "c": 1.5}, 2)
    (('c', 'a'), ('b',))
    """
    ordered = sorted(lengths, key=lambda name: (-lengths[name], name))
    return tuple(tuple(ordered[start : start + batch_size]) for start in range(0, len(ordered), batch_size))


def speaker_plan(speakers: Sequence[Sequence[str]], lengths: Mapping[str, float], batch_size: int) -> BatchPlan:
    """Cut blocks of whole speakers, in their order, into batches, from the longest to the shortest within a block.

    A block has as few speakers as fill two batches.

    >>> speaker_plan([["a", "b"], ["c"], ["d"]], {"a": 1, "b": 2, "c": 3, "d": 4}, 1)
    (('b',), ('a',), ('d',), ('c',))
    """
    blocks: list[list[str]] = [[]]
    for own in speakers:
        if len(blocks[-1]) >= 2 * batch_size:
            blocks.append([])
        blocks[-1] += own
    return tuple(batch for block in blocks for batch in batch_plan({name: lengths[name] for name in block}, batch_size))


def drawn_speakers(utterances: Iterable[Utterance], seed: int) -> list[list[str]]:
    """The utterances of every speaker, in a random order of the speakers; one who is not known is one by himself."""
    by_speaker: dict[tuple[str | None, str], list[str]] = {}
    for utterance in sorted(utterances, key=lambda u: u.id):
        alone = utterance.id if utterance.speaker is None else ""
        by_speaker.setdefault((utterance.speaker, alone), []).append(utterance.id)
    own = list(by_speaker.values())
    return [own[i] for i in np.random.default_rng(seed).permutation(len(own))]


def lengths_of(utterances: Iterable[Utterance]) -> dict[str, float]:
    """Seconds by id, as the recordings' headers say."""
    return {utterance.id: _seconds(utterance) for utterance in utterances}


def _seconds(utterance: Utterance) -> float:
    """Nothing for what cannot be decoded: it takes part as a moment of silence."""
    try:
        return utterance.seconds()
    except DataError:
        return 0.0


def fitting_batch_size(model_directory: Path, decoding: Decoding, memory: int) -> int:
    """The largest power of two, up to 256, of which one batch fits into half of `memory` (bytes) beside the model.

    Counted in 32-bit numbers, whatever the dtype: weights, the widest activations of the encoder, the keys and values
    of the speech, and the logits of a verified draft of `max_new_tokens`.

    Raises:
        ConfigError: not even one utterance fits.
        CheckpointNotFoundError: the configuration says too little of the model.
    """
    config = read_config(model_directory)
    family = ARCHITECTURES.get(config.get("model_type", ""))
    if family is None:
        return 1
    weights = sum(path.stat().st_size for path in model_directory.glob("*.safetensors"))
    try:
        numbers = family.numbers(config, decoding.max_new_tokens)
    except KeyError as error:
        raise CheckpointNotFoundError(
            f"{model_directory / 'config.json'}: there is no {error}; save it again"
        ) from None
    fits = int((_SHARE * memory - weights) / (4 * numbers))
    if fits < 1:
        raise ConfigError('decoding.batch_size = "auto": no utterance fits into memory beside the model; give a number')
    return min(1 << (fits.bit_length() - 1), _LARGEST)


def read_config(directory: Path) -> dict[str, Any]:
    """A checkpoint's `config.json`.

    Raises:
        CheckpointNotFoundError: it cannot be read.
    """
    path = directory / "config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointNotFoundError(f"{path}: cannot be read as JSON: {error}; save the checkpoint again") from None
    return found


def default_workers(devices: Iterable[str]) -> int:
    """One a core; one in all where a GPU is used, which several models would have to share."""
    return 1 if "cuda" in devices else len(os.sched_getaffinity(0))


def memory_of(device: str) -> int:
    """Bytes: of the smallest GPU, or of main memory."""
    return _gpu_memory() if device == "cuda" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpu_memory() -> int:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ConfigError(
            'decoding.batch_size = "auto": nvidia-smi does not tell the GPU\'s memory; give a number'
        ) from None
    return min(int(line) for line in told.split()) * 2**20
