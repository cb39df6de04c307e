"""Saving a quantized model and restoring it bit for bit, for every backend in one format.

A directory holds `quantization.json` (format version, backend, resolved spec, options, library
versions, quantized modules, shared tensors, SHA-256 of the other files and of itself),
`quantized.safetensors` (packed modules and everything that stayed float; a shared tensor once), and
for transformers models their configuration and processor. What an engine outside torch holds is in
files of its own, in the folder `engine`. No pickle is written or read.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from backends.core.base import (
    Adopting,
    Engine,
    Exporting,
    Generator,
    NoOptions,
    Packing,
    missing_package,
    package_versions,
)
from backends.core.errors import CheckpointError, UnsupportedError
from backends.core.manifest import ENGINE, FORMAT_VERSION, MANIFEST, WEIGHTS, check_files, read_manifest, write_manifest
from backends.core.quiet import hush_torchao
from backends.core.registry import get
from backends.core.report import QuantReport
from backends.core.selection import chosen
from backends.core.serial import options_from_dict, report_from_dict, spec_from_dict, spec_to_dict, to_jsonable
from backends.core.spec import QuantSpec, Scheme
from backends.core.state import check_fits, fill, keys_of, state, without_aliases

if TYPE_CHECKING:
    from torch import Tensor, nn

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


@dataclass(repr=False)
class Quantized:
    """A quantized model.

    Attributes:
        model: takes the same arguments as the original, `generate` included; or a `Generator`, which has
            `generate` alone (the capability's `form` says which).
        report: what every layer asked for and got, and what it occupies.
        backend: name of the adapter that made it.
        spec: the resolved specification.
        options: the adapter's options, every default filled in.
    """

    model: nn.Module | Generator
    report: QuantReport
    backend: str
    spec: QuantSpec
    options: Any = field(default_factory=NoOptions)

    def __repr__(self) -> str:
        """What it is, in a line; the model's own is pages long."""
        size, saved = self.report.size_bytes / 1e6, self.report.size_reduction
        code = self.spec.weight_code if self.spec.bits else "mixed widths"
        what = f"{self.backend} {self.spec.scheme} {code}, {type(self.model).__name__}"
        return f"<Quantized: {what}, {size:.2f} MB, {saved:.1%} saved>"

    def save(self, directory: str | Path, processor: Any = None) -> None:
        """Write the model so that `backends.load(directory)` restores it bit for bit.

        Args:
            directory: made when missing; it must be empty.
            processor: saved beside the model. Without one, a transformers model that came from a
                local directory takes the processor found there.

        Raises:
            CheckpointError: the directory cannot be written, or there is something in it.
        """
        _save(self, Path(directory), processor)

    def export(self, format: str, path: str | Path, processor: Any = None) -> None:
        """Write the model in the format of another program, which reads it without this package.

        Args:
            format: `ggml` for a file of whisper.cpp, from the backend `ggml`; `onnx` for a directory of graphs with
                the same codes, from `ptq`, which `load` runs in ONNX Runtime.
            path: that is not there yet.
            processor: as for `save`, for a format that keeps one.

        Raises:
            UnsupportedError: the backend does not write that format.
            ModelError: the program would not understand this model.
            CheckpointError: the path cannot be written, or there is something already.
        """
        adapter = get(self.backend)
        exports = adapter.exports if isinstance(adapter, Exporting) else {}
        if format not in exports:
            others = f", only {', '.join(exports)}" if exports else ""
            raise UnsupportedError(f"the backend {self.backend} does not export {format}{others}")
        path = Path(path)
        if path.exists():
            raise CheckpointError(f"{path}: there is something already; name another path")
        try:
            exports[format](self, path, processor)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written: {error.strerror}") from error


def adopted(quantized: Quantized, engine: str) -> Quantized:
    """A quantized model in the engine of another backend, with the same codes.

    Raises:
        UnsupportedError: the engine is not installed, or cannot compute with these codes; the message says why.
    """
    adapter = get(engine)
    missing = missing_package(adapter)
    if missing is not None:
        raise UnsupportedError(f"{engine}: {missing.reason}")
    assert isinstance(adapter, Adopting), f"{engine} takes models of other backends"
    return adapter.adopt(quantized)


def _save(quantized: Quantized, directory: Path, processor: Any) -> None:
    from safetensors import SafetensorError
    from torch import nn

    from backends.core.rest import rest_dtype

    if directory.is_dir() and any(directory.iterdir()):
        raise CheckpointError(f"{directory}: there is something already; name a new directory")
    backend, model = get(quantized.backend), quantized.model
    names, tensors = state(backend, model, quantized.report)
    unique, aliases = without_aliases(tensors)
    manifest = {
        "format_version": FORMAT_VERSION,
        "backend": quantized.backend,
        "spec": spec_to_dict(quantized.spec),
        "options": to_jsonable(quantized.options),
        "versions": package_versions(backend),
        "architecture": type(model).__name__ if isinstance(model, nn.Module) else model.architecture,
        "modules": names,
        "rest": rest_dtype(model) if isinstance(model, nn.Module) else None,
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
    write_manifest(directory, manifest)
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
    manifest = read_manifest(directory)
    backend = get(manifest["backend"])
    missing = missing_package(backend)
    if missing is not None:
        raise UnsupportedError(f"{backend.name}: {missing.reason}")
    check_files(directory, manifest["files"])
    spec, options = spec_from_dict(manifest["spec"]), options_from_dict(backend.options, manifest["options"])
    skeleton = _skeleton(directory, manifest["architecture"]) if model is None else model
    try:
        tensors = load_file(directory / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(f"{directory / WEIGHTS}: incomplete or altered: {error}") from None
    tensors |= {alias: tensors[name] for alias, name in manifest["aliases"].items()}
    if model is not None:
        check_fits(model, manifest, tensors, directory)
    skeleton.eval()
    restored: Any = skeleton
    if isinstance(backend, Engine):
        restored = backend.restore(directory / ENGINE, skeleton, spec, options)
    if isinstance(backend, Packing):
        _unpack(backend, skeleton, manifest["modules"], tensors, spec, options)
    fill(skeleton, tensors, manifest["modules"], manifest.get("rest"))
    return Quantized(restored, report_from_dict(manifest["report"]), backend.name, spec, options)


def _unpack(
    backend: Packing, model: nn.Module, names: list[str], tensors: dict[str, Tensor], spec: QuantSpec, options: Any
) -> None:
    """Put the quantized modules into `model`, and take their tensors out of `tensors`."""
    from backends.core.tied import tie

    asked = {target.candidate.name: target for target in chosen(model, spec)} if spec.scheme is not Scheme.NONE else {}
    for name in names:
        own = {key.removeprefix(name + "."): tensors.pop(key) for key in keys_of(name, tensors)}
        target = asked.get(name)
        module = backend.unpack(model.get_submodule(name), own, spec if target is None else target.spec, options)
        model.set_submodule(name, module)
        if target is not None and target.candidate.lookup:
            tie(model, name, target.candidate.lookup, backend.rows)  # type: ignore[attr-defined]


def read_report(directory: Path) -> QuantReport:
    """The report of a saved model, without its weights and without its library.

    Raises:
        CheckpointError: there is none, or it is of an unknown format version.
    """
    return report_from_dict(read_manifest(directory)["report"])


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
