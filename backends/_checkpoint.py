"""Saving a quantized model and restoring it bit for bit, for every backend in one format.

A directory holds `quantization.json` (format version, backend, resolved spec, options, library
versions, quantized modules, shared tensors, SHA-256 of the other files and of itself),
`quantized.safetensors` (packed modules and everything that stayed float; a shared tensor once), and
for transformers models their configuration and processor. What an engine outside torch holds is in
files of its own, in the folder `engine`. No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from backends._base import Backend, Engine, Generator, Packing, Quantized, missing_package, package_versions
from backends._errors import CheckpointError, UnsupportedError
from backends._registry import get
from backends._report import QuantReport
from backends._serial import options_from_dict, report_from_dict, spec_from_dict, spec_to_dict, to_jsonable
from backends._torchao_quiet import hush_torchao

if TYPE_CHECKING:
    from torch import Tensor, nn

MANIFEST = "quantization.json"
WEIGHTS = "quantized.safetensors"
ENGINE = "engine"
FORMAT_VERSION = 4
_CHECKSUM = "sha256"


def save(quantized: Quantized, directory: Path, processor: Any = None) -> None:
    """Write `quantized` to `directory`; see `Quantized.save`."""
    from safetensors import SafetensorError
    from torch import nn

    if directory.is_dir() and any(directory.iterdir()):
        raise CheckpointError(f"{directory}: there is something already; name a new directory")
    backend, model = get(quantized.backend), quantized.model
    names, tensors = _state(backend, quantized)
    unique, aliases = _without_aliases(tensors)
    manifest = {
        "format_version": FORMAT_VERSION,
        "backend": quantized.backend,
        "spec": spec_to_dict(quantized.spec),
        "options": to_jsonable(quantized.options),
        "versions": package_versions(backend),
        "architecture": type(model).__name__ if isinstance(model, nn.Module) else model.architecture,
        "modules": names,
        "aliases": aliases,
        "report": to_jsonable(quantized.report),
    }
    fresh = directory.absolute().with_name(f".{directory.absolute().name}-{uuid4().hex[:12]}")
    try:
        fresh.mkdir(parents=True)
        _write(quantized, unique, manifest, fresh, processor)
        fresh.rename(directory)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(f"{directory} cannot be written: {reason}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write(
    quantized: Quantized, tensors: dict[str, Tensor], manifest: dict[str, Any], directory: Path, processor: Any
) -> None:
    """Write all files, the manifest last."""
    from safetensors.torch import save_file

    backend = get(quantized.backend)
    _save_configuration(quantized.model, directory, processor)
    save_file(tensors, directory / WEIGHTS)
    if isinstance(backend, Engine):
        (directory / ENGINE).mkdir()
        backend.write(quantized.model, directory / ENGINE)
    manifest["files"] = {name: _digest(directory / name) for name in _files(directory)}
    (directory / MANIFEST).write_text(json.dumps({**manifest, _CHECKSUM: _checksum(manifest)}, indent=1) + "\n")
    (directory / WEIGHTS).chmod((directory / MANIFEST).stat().st_mode)  # safetensors' own is for the owner alone


def load(directory: str | Path, model: nn.Module | None = None) -> Quantized:
    """Restore what `Quantized.save` wrote; its logits are bit-equal to those of the saved model.

    Args:
        directory: as given to `save`.
        model: for models that are not transformers': a freshly built module of the same
            architecture, which is filled in place. Its own weights are not used.

    Raises:
        CheckpointError: files are missing, altered, or of an unknown format version, or need `model`.
        UnsupportedError: the backend's library is not installed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = Path(directory)
    manifest = _read_manifest(directory)
    backend = get(manifest["backend"])
    missing = missing_package(backend)
    if missing is not None:
        raise UnsupportedError(f"{backend.name}: {missing.reason}")
    _check_files(directory, manifest["files"])
    spec, options = spec_from_dict(manifest["spec"]), options_from_dict(backend.options, manifest["options"])
    skeleton = _skeleton(directory, manifest["architecture"]) if model is None else model
    try:
        tensors = load_file(directory / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(f"{directory / WEIGHTS}: incomplete or altered: {error}") from None
    tensors |= {alias: tensors[name] for alias, name in manifest["aliases"].items()}
    if model is not None:
        _check_fits(model, manifest, tensors, directory)
    skeleton.eval()
    restored: Any = skeleton
    if isinstance(backend, Engine):
        restored = backend.restore(directory / ENGINE, skeleton, spec, options)
    if isinstance(backend, Packing):
        for name in manifest["modules"]:
            own = {key.removeprefix(name + "."): tensors.pop(key) for key in _keys_of(name, tensors)}
            skeleton.set_submodule(name, backend.unpack(skeleton.get_submodule(name), own, spec, options))
    _fill(skeleton, tensors)
    return Quantized(restored, report_from_dict(manifest["report"]), backend.name, spec, options)


def read_report(directory: Path) -> QuantReport:
    """The report of a saved model, without its weights and without its library.

    Raises:
        CheckpointError: there is none, or it is of an unknown format version.
    """
    return report_from_dict(_read_manifest(directory)["report"])


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such directory")
    if not path.is_file() or not (directory / WEIGHTS).is_file():
        raise CheckpointError(f"{directory} has no {MANIFEST} with {WEIGHTS}: it was not written by Quantized.save")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: incomplete or altered: {error}") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format_version {version}; this release reads {FORMAT_VERSION}")
    if manifest.pop(_CHECKSUM, None) != _checksum(manifest):
        raise CheckpointError(f"{path}: incomplete or altered: its own SHA-256 is another; save the model again")
    return manifest


def _files(directory: Path) -> list[str]:
    """All that is in it."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(directory: Path, digests: Mapping[str, str]) -> None:
    """Raise where a file is missing, was altered, or was put among an engine's; others may be added."""
    strangers = {name for name in _files(directory) if name.startswith(f"{ENGINE}/")} - digests.keys()
    for name in sorted({*digests, *strangers}):
        path = directory / name
        if name in strangers or not path.is_file() or _digest(path) != digests[name]:
            raise CheckpointError(
                f"{path}: incomplete or altered: {MANIFEST} has another SHA-256; save the model again"
            )


def _state(backend: Backend, quantized: Quantized) -> tuple[list[str], dict[str, Tensor]]:
    """Names of the modules that are packed, and all tensors: theirs, and what stayed float outside engines."""
    from torch import nn

    if not isinstance(quantized.model, nn.Module):
        return [], {}
    if not isinstance(backend, Packing):
        return [], _float_state(quantized.model, [])
    names = [layer.name for layer in quantized.report.layers if layer.effective is not None]
    return names, _packed(backend, quantized.model, names) | _float_state(quantized.model, names)


def _packed(backend: Packing, model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor.detach().contiguous()
        for name in names
        for key, tensor in backend.pack(model.get_submodule(name)).items()
    }


def _float_state(model: nn.Module, quantized: list[str]) -> dict[str, Tensor]:
    """Parameters and persistent buffers outside the quantized modules, every name of a shared one."""
    inside = tuple(name + "." for name in quantized)
    state = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if (prefix + ".").startswith(inside):
            continue
        own = {**module._parameters, **module._buffers}
        for key, tensor in own.items():
            if tensor is not None and key not in module._non_persistent_buffers_set:
                state[f"{prefix}.{key}".lstrip(".")] = tensor.detach()
    return state


def _without_aliases(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    first: dict[Any, str] = {}
    unique, aliases = {}, {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype) if tensor.numel() else name
        if key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            unique[name] = tensor.contiguous()
    return unique, aliases


def _check_fits(model: nn.Module, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], directory: Path) -> None:
    """Raise where a module that was built for the saved tensors has others, or other shapes."""
    names, modules = manifest["modules"], dict(model.named_modules())
    packed = {layer["name"]: tuple(layer["shape"]) for layer in manifest["report"]["layers"] if layer["name"] in names}
    expected = packed | {
        key: tuple(tensor.shape)
        for key, tensor in tensors.items()
        if not key.startswith(tuple(f"{name}." for name in names))
    }
    weights = {name: getattr(modules.get(name), "weight", None) for name in names}
    found = {name: tuple(weight.shape) for name, weight in weights.items() if weight is not None} | {
        key: tuple(tensor.shape) for key, tensor in _float_state(model, names).items()
    }
    others = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if others:
        raise CheckpointError(f"{directory}: the model given is not like the saved one: {', '.join(others[:8])}")


def _keys_of(name: str, tensors: dict[str, Tensor]) -> list[str]:
    return [key for key in tensors if key.startswith(name + ".")]


def _fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put `tensors` into `model` by name; a tensor under two names becomes one shared parameter."""
    from torch import nn

    parameters: dict[int, nn.Parameter] = {}
    for name, tensor in tensors.items():
        prefix, _, key = name.rpartition(".")
        module = model.get_submodule(prefix)
        if key in module._buffers:
            module._buffers[key] = tensor
        else:
            module._parameters[key] = parameters.setdefault(id(tensor), nn.Parameter(tensor, requires_grad=False))


def _skeleton(directory: Path, architecture: str) -> nn.Module:
    if not (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} holds a {architecture}, which is no transformers model: pass load(directory, model=...)"
        )
    hush_torchao()
    import transformers
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    model: nn.Module = getattr(transformers, architecture)._from_config(config)
    if (directory / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)  # type: ignore[assignment]
    return model


def _save_configuration(model: nn.Module | Generator, directory: Path, processor: Any) -> None:
    for part in (getattr(model, "config", None), getattr(model, "generation_config", None), processor):
        if part is not None and hasattr(part, "save_pretrained"):
            part.save_pretrained(directory)
    source = Path(getattr(getattr(model, "config", None), "name_or_path", "") or ".")
    if processor is None and source != Path() and source.is_dir() and not source.samefile(directory):
        for file in _PROCESSOR_FILES:
            if (source / file).is_file():
                shutil.copyfile(source / file, directory / file)


_PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
)
