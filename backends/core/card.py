"""Model cards of saved quantized models, in the form of the Hugging Face hub, and their upload."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.core.errors import CheckpointError
from backends.core.manifest import read_manifest
from backends.core.report import QuantReport
from backends.core.serial import report_from_dict

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

CARD = "README.md"
_MARK = "<!-- written by asrquant -->"


@dataclass(frozen=True)
class Evaluated:
    """What was measured of a model.

    Attributes:
        results: for the card's metadata.
        text: sections in Markdown, with the conditions.
    """

    results: tuple[EvalResult, ...] = field(default=())
    text: str = ""


def card_of(directory: Path, base_model: str, license: str, evaluated: Evaluated) -> ModelCard:
    """The card of a saved model: what it is, its sizes, what was measured, and how it is loaded.

    Args:
        directory: of the model.
        base_model: on the hub; empty where it is not named.
        license: of the base model, as the hub writes it; empty where it is not known.
        evaluated: what was measured; nothing, and the card says so.

    Raises:
        CheckpointError: the model is not what was saved.
    """
    from huggingface_hub import ModelCard, ModelCardData

    manifest = read_manifest(directory)
    report = report_from_dict(manifest["report"])
    data = ModelCardData(
        license=license.lower() or None,
        base_model=base_model or None,
        base_model_relation="quantized" if base_model else None,
        library_name="asrquant",
        pipeline_tag="automatic-speech-recognition",
        tags=["asrquant", "quantized", manifest["backend"]],
        model_name=directory.name,
        eval_results=list(evaluated.results) or None,
    )
    sections = [_MARK, f"# {directory.name}", _what(manifest, report, base_model), _codes(report), _use(directory.name)]
    sections.append(evaluated.text or "## What was measured\n\nNothing: this card is of the model alone.")
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def _what(manifest: dict[str, Any], report: QuantReport, base_model: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items()) if version)
    notes = "".join(f"\n- {note}" for note in report.notes)
    size, before = report.size_bytes / 1e6, report.full_precision_bytes / 1e6
    return (
        f"{base_model or manifest['architecture']}, quantized by asrquant's backend `{manifest['backend']}` "
        f"({versions}): {size:.2f} MB, {report.size_reduction:.1%} less than the {before:.2f} MB of the model as it "
        f"was loaded; {report.effective_bits:.2f} bits a weight in the quantized layers, scales included.{notes}"
    )


def _codes(report: QuantReport) -> str:
    count = Counter("float" if layer.effective is None else str(layer.effective) for layer in report.layers)
    weights: Counter[str] = Counter()
    for layer in report.layers:
        weights["float" if layer.effective is None else str(layer.effective)] += layer.parameters
    lines = [f"| {code} | {count[code]} | {weights[code] / 1e6:.2f} |" for code in count]
    return "\n".join(["| code | modules | weights, millions |", "|---|---|---|", *lines])


def _use(name: str) -> str:
    return (
        f'```python\nfrom backends import load  # of asrquant\n\nmodel = load("{name}").model\n```\n\n'
        f"`python -m harness.transcribe {name} speech.wav` transcribes."
    )


def updated_card(directory: Path, base_model: str, license: str) -> ModelCard | None:
    """The card that is there, with what is given of its base model; `None` where there is none of ours.

    What it says was measured stays, and what somebody added to it.
    """
    from huggingface_hub import ModelCard

    path = directory / CARD
    if not path.is_file() or _MARK not in path.read_text(encoding="utf-8"):
        return None
    card = ModelCard.load(path)
    card.data.base_model = base_model or card.data.base_model
    card.data.base_model_relation = "quantized" if card.data.base_model else None
    card.data.license = license.lower() or card.data.license
    return card


def write_card(directory: Path, card: ModelCard) -> Path:
    """Write a card into a model's directory, in the place of one that was written before.

    Raises:
        CheckpointError: there is another README.md, or it cannot be written.
    """
    path = directory / CARD
    try:
        if path.is_file() and _MARK not in path.read_text(encoding="utf-8"):
            raise CheckpointError(f"{path}: it was not written by asrquant; move it away to have a card")
        card.save(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def push(directory: Path, repository: str, *, upload: bool) -> str:
    """Put a saved model on the hub, where `upload` says so, and say what is or would be done.

    Args:
        directory: of the model, with its card.
        repository: such as `me/my-model`.
        upload: without it nothing is sent.

    Raises:
        CheckpointError: there is no card, no token, or the hub refuses.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise CheckpointError(f"{repository}: name a repository as OWNER/NAME")
    if not (directory / CARD).is_file():
        raise CheckpointError(f"{directory} has no {CARD}: write the card first")
    files = [path for path in directory.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    names = ", ".join(sorted(str(path.relative_to(directory)) for path in files))
    told = f"{len(files)} files, {size:.1f} MB, to {repository}: {names}"
    if not upload:
        return f"would send {told}; --upload sends them"
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise CheckpointError("HF_TOKEN is not set: it holds the token with which the hub is written to")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(folder_path=directory, repo_id=repository)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(f"{repository}: the hub did not take it: {str(error).splitlines()[0]}") from None
    return f"sent {told}"
