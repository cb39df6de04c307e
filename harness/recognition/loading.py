"""Recognisers from their checkpoints: what would be misread is refused, with weights looked at or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.core.quiet import hush_torchao

hush_torchao()

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq, AutoProcessor

from backends import CheckpointError, UnsupportedError, load
from backends.core.generation import check_generation
from backends.core.inspection import check_recognizer
from backends.core.pretrained import inspect_weights, load_pretrained
from harness.errors import CheckpointNotFoundError
from harness.experiment.tables import Decoding
from harness.recognition.families import FAMILIES, Preparation
from harness.recognition.models import Recognizer
from harness.resolution.checkpoints import check_config, check_processor


def load_recognizer(directory: Path, dtype: str, device: str) -> Recognizer:
    """Load a checkpoint from its local directory: safetensors only, no code of the checkpoint's is run.

    Raises:
        CheckpointNotFoundError: the architecture is not one that the harness knows, or there is no processor.
        CheckpointError: the weights are incomplete or do not fit.
    """
    family, processor = _family_and_processor(directory)
    model = load_pretrained(AutoModelForSpeechSeq2Seq, directory, getattr(torch, dtype))
    check_generation(model, directory)
    return Recognizer(model.to(device), processor, family)


def inspect_checkpoint(directory: Path, decoding: Decoding) -> None:
    """What would be refused when a checkpoint is loaded and used, without reading any weights.

    Raises:
        CheckpointNotFoundError, CheckpointError: as for `load_recognizer`.
        UnsupportedError: it cannot transcribe as `decoding` says.
    """
    family, _ = _family_and_processor(directory)
    model = inspect_weights(AutoModelForSpeechSeq2Seq, directory)
    check_generation(model, directory)
    try:
        family.generation(model, decoding, whole=decoding.long_audio == "sequential")
    except UnsupportedError as error:
        raise UnsupportedError(f"{directory}: {error}") from None


def load_quantized(directory: Path, device: str) -> Recognizer:
    """Load what `backends.Quantized.save` wrote, with the processor beside it.

    Raises:
        CheckpointNotFoundError: there is no processor, or the architecture is not one that the harness knows.
        CheckpointError: the saved model is incomplete or altered.
    """
    family, processor = _family_and_processor(directory)
    model: Any = load(directory).model
    check_generation(model, directory)
    return Recognizer(model.to(device) if isinstance(model, nn.Module) else model, processor, family)


def _family_and_processor(directory: Path) -> tuple[Preparation, Any]:
    check_config(directory)
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise CheckpointNotFoundError(f"{directory}: only {', '.join(FAMILIES)} models can transcribe here")
        check_processor(directory)
        check_recognizer(directory)
        processor = AutoProcessor.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}: cannot be loaded: {str(error).splitlines()[0]}") from error
    return family, processor
