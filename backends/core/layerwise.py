"""Quantization module by module: what all adapters that replace `nn.Module`s have in common.

An adapter says how one module is converted, packed and dequantized; finding the modules, calibrating,
measuring the error and reporting are here. A weight that two modules share is never changed in
place: the chosen module gets a quantized copy, and the tie ends there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, CalibrationInput, NoOptions
from backends.core.checkpoint import Quantized
from backends.core.errors import ModelError, SpecError
from backends.core.observing import showing
from backends.core.report import LayerReport, QuantReport, size_bytes
from backends.core.spec import Activations, ModuleKind, Part, PerGroup, QuantSpec, Scheme, WeightCode

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Candidate:
    """A module that could be quantized, and where it stands."""

    name: str
    kind: ModuleKind
    part: Part
    module: nn.Module

    @property
    def weight(self) -> Tensor:
        """Its float weight, first dimension the output channels (of an embedding, the tokens)."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        return weight.detach()


def candidates(model: nn.Module) -> list[Candidate]:
    """Every linear layer, head, token embedding and one-dimensional convolution of `model`, in its order.

    The head and the embedding are those that a transformers model names itself
    (`get_output_embeddings`, `get_input_embeddings`). Without `get_encoder` everything is encoder.
    """
    from torch import nn

    head, embedding = _answer(model, "get_output_embeddings"), _answer(model, "get_input_embeddings")
    encoder = _answer(model, "get_encoder")
    encoder_modules = {id(module) for module in (model if encoder is None else encoder).modules()}
    found = []
    for name, module in model.named_modules():
        kind = _kind(module, head, embedding, nn)
        if kind is not None:
            part = Part.ENCODER if id(module) in encoder_modules else Part.DECODER
            found.append(Candidate(name, kind, part, module))
    return found


def _kind(module: nn.Module, head: Any, embedding: Any, nn: Any) -> ModuleKind | None:
    if module is head and isinstance(module, nn.Linear):
        return ModuleKind.HEAD
    if module is embedding and isinstance(module, nn.Embedding):
        return ModuleKind.EMBEDDING
    if isinstance(module, nn.Linear):
        return ModuleKind.LINEAR
    return ModuleKind.CONV if isinstance(module, nn.Conv1d) else None


def _answer(model: nn.Module, method: str) -> Any:
    """What a transformers model says of itself, or `None` for a model that does not know the question."""
    try:
        return getattr(model, method)()
    except (AttributeError, NotImplementedError):
        return None


def chosen(model: nn.Module, spec: QuantSpec) -> list[Candidate]:
    """The candidates that `spec` selects by `modules` and `parts`.

    Raises:
        ModelError: there is none, or the model itself is one.
    """
    selected = [c for c in candidates(model) if _is_chosen(c, spec)]
    if any(not candidate.name for candidate in selected):
        raise ModelError("the model is a single layer, which cannot be replaced in place: put it into an nn.Sequential")
    if not selected:
        kinds, parts = ", ".join(sorted(spec.modules)), ", ".join(sorted(spec.parts))
        raise ModelError(f"the model has no module of kind {kinds} in its {parts}: nothing would be quantized")
    return selected


def _is_chosen(candidate: Candidate, spec: QuantSpec) -> bool:
    return candidate.kind in spec.modules and candidate.part in spec.parts


_NAMED = 4
"""Modules that a sentence names."""


def group_divides(targets: list[Candidate], spec: QuantSpec, mend: str = "") -> None:
    """Raise `ModelError` naming modules whose row length the group size of `spec` does not divide."""
    if not isinstance(spec.granularity, PerGroup):
        return
    size = spec.granularity.group_size
    offenders = {c.name: c.weight[0].numel() for c in targets if c.weight[0].numel() % size}
    if offenders:
        named = ", ".join(f"{name} ({width})" for name, width in list(offenders.items())[:_NAMED])
        more = f" and {len(offenders) - _NAMED} more" if len(offenders) > _NAMED else ""
        raise ModelError(f"group size {size} does not divide the width of {named}{more}{mend}")


class LayerwiseBackend:
    """Base of the adapters that replace one module after another.

    A subclass sets `name`, `packages`, `options` and the `kinds` that it can replace, and implements
    `resolve`, `capability`, `convert`, `pack`, `unpack`, `dequantize` and `effective`; where needed also
    `problems` and `freeze`.
    """

    name: str
    packages: tuple[str, ...]
    options: type = NoOptions
    kinds: frozenset[ModuleKind] = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD})
    dtypes: frozenset[str] = frozenset({"float32", "float16", "bfloat16"})
    """Of the float weights that the library takes."""
    codes_outputs: bool = False
    """Whether it can round outputs to a code, see `QuantSpec.outputs`; `resolve` says whether it does unasked."""

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """Return what takes the place of a float module: quantized, or observing until `freeze`."""
        raise NotImplementedError

    def freeze(self, module: nn.Module) -> nn.Module:
        """Turn a module that has seen calibration data into its quantized form."""
        return module

    def dequantize(self, module: nn.Module) -> Tensor:
        """Return the float weight that a quantized module computes with, in the original's shape."""
        raise NotImplementedError

    def effective(self, module: nn.Module, spec: QuantSpec, options: Any) -> tuple[WeightCode, str]:
        """Return the code that a quantized module really has, and why it differs from the request, if it does."""
        code = spec.weight_code
        if code is None:
            raise SpecError(f"{self.name} does not allot bits itself: bits must be a number")
        return code, ""

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """Return all tensors of one quantized module; the bias under the name `bias`."""
        raise NotImplementedError

    def problems(self, targets: list[Candidate], spec: QuantSpec, options: Any) -> None:
        """Raise `ModelError` for modules that this library cannot quantize as asked."""
        group_divides(targets, spec)

    def observe(self, model: nn.Module, calibration: Calibration | None) -> None:
        """Show the calibration inputs to the converted modules, where `calibrates` says that they are needed."""
        calibrate(model, calibration)

    def notes(self, spec: QuantSpec, options: Any) -> tuple[str, ...]:
        """What the report says about the whole model."""
        return ()

    def calibrates(self, spec: QuantSpec, options: Any) -> bool:
        """Where activation ranges are fixed beforehand."""
        return spec.scheme is Scheme.STATIC

    def row_independent(self, spec: QuantSpec, options: Any) -> bool:
        """Unless ranges of activations are found anew for all rows of a call together."""
        return spec.scheme is not Scheme.DYNAMIC or _by_token(spec.activations)

    def check(self, model: nn.Module, spec: QuantSpec, options: Any) -> None:
        """Raise `ModelError` where `spec` cannot be applied to `model`; changes nothing."""
        targets = chosen(model, spec)
        self._check_dtypes(targets)
        _check_not_shared(model, targets)
        self.problems(targets, spec, options)

    def _check_dtypes(self, targets: list[Candidate]) -> None:
        offenders = [c.name for c in targets if str(c.weight.dtype).removeprefix("torch.") not in self.dtypes]
        if offenders:
            taken = ", ".join(sorted(self.dtypes))
            raise ModelError(f"{self.name} takes weights in {taken}; load the model so, for {', '.join(offenders)}")

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Replace the chosen modules of `model`, which is consumed; calibrate where the scheme is static."""
        import torch

        self.check(model, spec, options)
        model.eval()
        original_bytes = size_bytes(model)
        everything, targets = candidates(model), chosen(model, spec)
        names = {c.name for c in targets}
        with torch.no_grad():
            course = self.replace(model, targets, spec, options, calibration)
            layers = tuple(
                self._report(model, c, spec, options) if c.name in names else unrequested(c, spec) for c in everything
            )
        report = QuantReport(layers, size_bytes(model), original_bytes, (*self.notes(spec, options), *course))
        return Quantized(model, report, self.name, spec, options)

    def replace(
        self, model: nn.Module, targets: list[Candidate], spec: QuantSpec, options: Any, calibration: Calibration | None
    ) -> tuple[str, ...]:
        """Put the quantized modules into `model`: convert, observe where calibration is needed, freeze.

        Returns:
            What the report should say about how it went, beside `notes`.
        """
        for candidate in targets:
            model.set_submodule(candidate.name, self.convert(candidate, spec, options))
        if self.calibrates(spec, options):
            self.observe_all(model, {c.name for c in targets}, calibration)
        for candidate in targets:
            model.set_submodule(candidate.name, self.freeze(model.get_submodule(candidate.name)))
        return ()

    def observe_all(self, model: nn.Module, names: set[str], calibration: Calibration | None) -> None:
        """`observe`, and make sure that every module of `names` was reached."""
        with _all_called(model, names):
            self.observe(model, calibration)

    def _report(self, model: nn.Module, candidate: Candidate, spec: QuantSpec, options: Any) -> LayerReport:
        module = model.get_submodule(candidate.name)
        weight = candidate.weight.float()
        error = (self.dequantize(module).float().reshape(weight.shape) - weight).norm() / weight.norm()
        stored = sum(t.numel() * t.element_size() for name, t in self.pack(module).items() if _is_weight(name))
        code, reason = self.effective(module, spec, options)
        shape = tuple(weight.shape)
        return LayerReport(
            candidate.name, candidate.kind, shape, spec.weight_code, code, reason, stored * 8, float(error)
        )


def _by_token(activations: Activations | None) -> bool:
    return activations is not None and activations.granularity == "per_token"


def _check_not_shared(model: nn.Module, targets: list[Candidate]) -> None:
    """A module that stands in two places would be replaced in one of them only."""
    places: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(name)
    shared = [" = ".join(places[id(c.module)]) for c in targets if len(places[id(c.module)]) > 1]
    if shared:
        raise ModelError(f"modules that stand in two places of the model cannot be replaced: {', '.join(shared)}")


@contextmanager
def _all_called(model: nn.Module, names: set[str]) -> Iterator[None]:
    """Raise `ModelError` naming every module of `names` that was not called meanwhile: its range is unknown."""
    silent = set(names)
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: silent.discard(name))
        for name in names
    ]
    yield
    for hook in hooks:
        hook.remove()
    if silent:
        raise ModelError(f"calibration did not reach {', '.join(sorted(silent))}: leave them out, or calibrate on more")


def _is_weight(packed_name: str) -> bool:
    return not packed_name.startswith(("bias", "input_", "output_", "quant_state"))


def unrequested(candidate: Candidate, spec: QuantSpec) -> LayerReport:
    """The report of a candidate that `spec` does not select."""
    field = "modules" if candidate.kind not in spec.modules else "parts"
    reason = f"not requested: {field} = {', '.join(sorted(getattr(spec, field)))}"
    weight = candidate.weight
    bits = weight.numel() * weight.element_size() * 8
    return LayerReport(candidate.name, candidate.kind, tuple(weight.shape), None, None, reason, bits, 0.0)


def calibrate(model: nn.Module, calibration: Calibration | None) -> None:
    """Run `model` on every calibration input; observers in it take note of what is `counted`.

    Raises:
        ModelError: there is no calibration input.
    """
    seen = False
    for item in calibration or ():
        seen = True
        shown = item if isinstance(item, CalibrationInput) else CalibrationInput(item)
        with showing(shown):
            model(**shown.inputs) if isinstance(shown.inputs, Mapping) else model(shown.inputs)
    if not seen:
        raise ModelError("this needs calibration inputs, but there are none: pass calibration=[...] to quantize")
