"""What an adapter is: the `Backend` protocol, its answers, and the result of a quantization.

An adapter is one file that exposes `BACKEND`. It never does something other than what was asked:
what it cannot do is answered by `capability` (without looking at a model) or by `check` (with the
model, before a weight is touched).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from backends.core.recipes import kinds_of
from backends.core.spec import ModuleKind, QuantSpec, Rest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from backends.core.checkpoint import Quantized


@dataclass(frozen=True)
class CalibrationInput:
    """One batch of calibration, with what of it counts.

    Attributes:
        inputs: passed to the model as keyword arguments, or alone.
        lengths: by part (`encoder`, `decoder`), how many positions of every sequence there are no padding,
            (batch,) of whole numbers; a part that is not named counts whole.
    """

    inputs: Mapping[str, Tensor] | Tensor
    lengths: Mapping[str, Tensor] = field(default_factory=dict)

    def mask(self, part: str, positions: int) -> Tensor | None:
        """Which of `positions` count, (batch, positions) of bool; `None` for all."""
        if part not in self.lengths:
            return None
        import torch

        lengths = self.lengths[part]
        return torch.arange(positions, device=lengths.device)[None, :] < lengths[:, None]

    def counted(self, seen: Tensor) -> Tensor:
        """The vectors of a layer's input or output that count, while the model is at this batch.

        Args:
            seen: (batch, positions, width). What has as many positions as there are decoder tokens is taken
                for the decoder's, all else for the encoder's.

        Returns:
            (vectors, width); `seen` itself where no padding is known, or it has another shape.
        """
        if seen.dim() != 3:
            return seen
        tokens = self.inputs.get("decoder_input_ids") if isinstance(self.inputs, Mapping) else None
        of_decoder = tokens is not None and tokens.shape[1] == seen.shape[1]
        mask = self.mask("decoder" if of_decoder else "encoder", seen.shape[1])
        return seen if mask is None else seen[mask]


Calibration = Iterable["CalibrationInput | Mapping[str, Tensor] | Tensor"]
"""What a model is shown to find ranges, second moments and the like."""


class Form(StrEnum):
    """What a quantized model is, and so what can be done with it beside transcribing."""

    LAYERS = "layers"
    """An `nn.Module` whose layers are modules too: each can be looked into, and put into another model."""
    MODULE = "module"
    """An `nn.Module`, some of whose layers another engine computes unseen."""
    GENERATOR = "generator"
    """A `Generator`: it only transcribes."""


@dataclass(frozen=True)
class Supported:
    """The backend can do it.

    Attributes:
        simulated: the arithmetic is done in float on values rounded beforehand; no latency may be claimed.
        note: what a user should know, such as a kernel that stands in for a missing one.
        form: what the quantized model will be.
    """

    simulated: bool = False
    note: str = ""
    form: Form = Form.LAYERS


@dataclass(frozen=True)
class Unsupported:
    """The backend cannot do it.

    Attributes:
        reason: why, in words that a user understands.
        elsewhere: whether another machine could do it.
    """

    reason: str
    elsewhere: bool = field(default=False, compare=False, repr=False)


Capability = Supported | Unsupported


@dataclass(frozen=True)
class NoOptions:
    """The options of a backend that has none."""


class Generator(Protocol):
    """A recogniser that another engine holds and computes: it transcribes, and nothing in it can be looked at.

    Attributes:
        architecture: name of the transformers class that it was made of.
        config, generation_config: of that model.
        main_input_name: the argument of `generate` that takes the speech.
        device: where inputs are to be.
        prompt: tokens that the decoder was started with in the last call of `generate`.
    """

    architecture: str
    config: Any
    generation_config: Any
    main_input_name: str
    device: torch.device
    prompt: list[int]

    @property
    def generate(self) -> Callable[..., Tensor]:
        """What transcribes, by the rule of transformers' `generate`, and returns what that would: (batch, tokens).

        It takes the speech by the name `main_input_name`, `max_new_tokens`, `num_beams`, `do_sample`, and what else
        its family needs (Whisper: `language`, `task`). What it cannot do is an `UnsupportedError`.
        """
        ...


class Backend(Protocol):
    """A quantization library behind one face."""

    name: str
    packages: tuple[str, ...]
    """Distributions whose versions decide the result; the first is the library itself."""
    options: type
    """A frozen dataclass of what only this library knows, every field with a default."""

    def resolve(self, spec: QuantSpec, options: Any) -> QuantSpec:
        """Return `spec` with every blank filled by this library's default. Pure, without torch."""
        ...

    def capability(self, spec: QuantSpec, options: Any, device: str) -> Capability:
        """Say whether a resolved spec can be done on `device` (`cpu` or `cuda`). Pure, without torch."""
        ...

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """Whether a resolved spec needs calibration inputs. Pure, without torch."""
        ...

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Whether what one input row gives depends on nothing else in the call, up to float rounding. Pure."""
        ...

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """Raise `ModelError` naming every module that the spec cannot be applied to. Changes nothing."""
        ...

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Quantize `model` in place and report. After an error the model is not to be used."""
        ...


@runtime_checkable
class Packing(Protocol):
    """What a backend has beside the members of `Backend` if its quantized layers are modules."""

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Return all tensors of one quantized module: codes, scales, zero points and bias."""
        ...

    def unpack(self, module: nn.Module, tensors: dict[str, Tensor], spec: QuantSpec, options: Any) -> nn.Module:
        """Return a quantized module made of packed tensors; `module` is the float module it takes the place of."""
        ...


@runtime_checkable
class Sizing(Protocol):
    """What a backend has beside the members of `Backend` if it knows the bytes of some specs from quicker ones."""

    def sized_as(self, spec: QuantSpec, options: Any) -> QuantSpec | None:
        """A spec that has the bytes of a resolved one and needs no calibration; `None` where there is none. Pure."""
        ...


@runtime_checkable
class Engine(Protocol):
    """What a backend has beside the members of `Backend` if an engine outside torch computes its models."""

    def write(self, model: Any, directory: Path) -> None:
        """Write what the engine holds of a quantized model into `directory`, which is there and empty."""
        ...

    def restore(self, directory: Path, skeleton: nn.Module, spec: QuantSpec, options: Any) -> Any:
        """Return the quantized model of what `write` wrote.

        Args:
            directory: as given to `write`; it stays.
            skeleton: the float model without its weights. Where the quantized model is a module, this is it, changed
                in place, and what of it stayed float is filled in afterwards.
            spec, options: as it was quantized with.
        """
        ...


@runtime_checkable
class Exporting(Protocol):
    """What a backend has beside the members of `Backend` if its models can be written for other programs."""

    exports: Mapping[str, Callable[[Quantized, Path, Any], None]]
    """By the name of a format, what writes a quantized model, with its processor, to a path that is not there yet."""


@runtime_checkable
class Adopting(Protocol):
    """What a backend has beside the members of `Backend` if models of others can be had in its engine."""

    def adopt(self, quantized: Quantized) -> Quantized:
        """A quantized model in this engine, with the same codes; `quantized` stays as it is.

        Raises:
            UnsupportedError: the engine cannot compute with these codes; the message says why.
        """
        ...


_EXTRAS = frozenset({"ctranslate2", "ggml", "onnxruntime", "openvino", "torchao"})
"""Backends that are extras of this package, which know the versions that they need."""


def missing_package(backend: Backend) -> Unsupported | None:
    """The answer of a backend whose library is not installed, or `None` where all is there."""
    for package, version in package_versions(backend).items():
        if version == "none":
            extra = f'".[{backend.name}]" in a checkout of asrquant' if backend.name in _EXTRAS else package
            return Unsupported(f"{package} is not installed: pip install {extra}", elsewhere=True)
    return None


def outputs_refused(backend: Backend, spec: QuantSpec) -> Unsupported | None:
    """The answer of a backend that cannot round outputs, where they are asked for, or `None` where all is well.

    Those that can have an attribute `codes_outputs` that is true, beside the members of `Backend`.
    """
    if spec.outputs and not getattr(backend, "codes_outputs", False):
        return Unsupported(f"{backend.name} leaves what layers give as floats: leave outputs out")
    return None


def groups_refused(backend: Backend, spec: QuantSpec) -> Unsupported | None:
    """The answer of a backend that has no scales within a token, where they are asked for, or `None` where all is well.

    Those that have such scales have an attribute `groups_activations` that is true, beside the members of `Backend`.
    """
    grouped = spec.activations is not None and spec.activations.grouped
    if grouped and not getattr(backend, "groups_activations", False):
        return Unsupported(f"{backend.name} has no scales within a token: use per_tensor or per_token for activations")
    return None


def selection_refused(backend: Backend, spec: QuantSpec) -> Unsupported | None:
    """The answer of a backend that knows no recipe, no other rest, or no tie, where one is asked for; `None` otherwise.

    Those that quantize layer by layer have an attribute `layerwise` that is true, and `kinds` of modules, beside the
    members of `Backend`; others may say in `no_recipe` why they do not.
    """
    if spec.recipe and not getattr(backend, "layerwise", False):
        why = getattr(backend, "no_recipe", "it does not quantize layer by layer")
        return Unsupported(f"{why}: leave recipe out")
    if spec.rest != Rest.FP32 and not getattr(backend, "layerwise", False):
        return Unsupported("it stores what is not quantized in its own way: leave rest out")
    if ModuleKind.TIED in kinds_of(spec) and ModuleKind.TIED not in getattr(backend, "kinds", ()):
        return Unsupported(
            "a tie needs single rows of a quantized head, which cannot be looked up here: use head or embedding"
        )
    return None


def package_versions(backend: Backend) -> dict[str, str]:
    """Versions of the distributions that decide this backend's results; `none` where one is missing."""
    return {package: _version(package) for package in backend.packages}


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
