"""Quantization module by module: what all adapters that replace `nn.Module`s have in common.

An adapter says how one module is converted, packed and dequantized; finding the modules, calibrating,
measuring the error and reporting are here. A weight that two modules share is never changed in
place: the chosen module gets a quantized copy, and the tie ends there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backends.core.base import Calibration, CalibrationInput, NoOptions
from backends.core.checkpoint import Quantized
from backends.core.codes import Activations, WeightCode
from backends.core.errors import ModelError, SpecError
from backends.core.observing import showing
from backends.core.report import LayerReport, QuantReport, size_bytes
from backends.core.selection import (
    Candidate,
    Target,
    candidates_for,
    check_not_shared,
    chosen,
    group_divides,
    unrequested,
)
from backends.core.spec import ModuleKind, QuantSpec, Scheme

if TYPE_CHECKING:
    from torch import Tensor, nn


class LayerwiseBackend:
    """Base of the adapters that replace one module after another.

    A subclass sets `name`, `packages`, `options` and the `kinds` that it can replace, and implements
    `resolve`, `capability`, `convert`, `pack`, `unpack`, `dequantize` and `effective`; where needed also
    `problems` and `freeze`.
    """

    name: str
    packages: tuple[str, ...]
    options: type = NoOptions
    layerwise: bool = True
    kinds: frozenset[ModuleKind] = frozenset({ModuleKind.LINEAR, ModuleKind.HEAD})
    dtypes: frozenset[str] = frozenset({"float32", "float16", "bfloat16"})
    """Of the float weights that the library takes."""
    codes_outputs: bool = False
    """Whether it can round outputs to a code, see `QuantSpec.outputs`; `resolve` says whether it does unasked."""

    def recipe_refused(self, spec: QuantSpec) -> str | None:
        """Why the rules of a resolved spec cannot be done beside each other, though each can; `None` where they can."""
        return None

    def convert(self, candidate: Candidate, spec: QuantSpec, options: Any) -> nn.Module:
        """Return what takes the place of a float module: quantized, or observing until `freeze`."""
        raise NotImplementedError

    def freeze(self, module: nn.Module) -> nn.Module:
        """Turn a module that has seen calibration data into its quantized form."""
        return module

    def dequantize(self, module: nn.Module) -> Tensor:
        """Return the float weight that a quantized module computes with, in the original's shape."""
        raise NotImplementedError

    def rows(self, module: nn.Module, tokens: Tensor) -> Tensor:
        """Return rows of that weight, (tokens, columns), for indices (tokens,); where `kinds` has the tie."""
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
        selected = [target.candidate for target in targets]
        self._check_dtypes(selected)
        check_not_shared(model, selected)
        for own in dict.fromkeys(target.spec for target in targets):
            self.problems([target.candidate for target in targets if target.spec == own], own, options)

    def _check_dtypes(self, targets: list[Candidate]) -> None:
        offenders = [c.name for c in targets if str(c.weight.dtype).removeprefix("torch.") not in self.dtypes]
        if offenders:
            taken = ", ".join(sorted(self.dtypes))
            raise ModelError(f"{self.name} takes weights in {taken}; load the model so, for {', '.join(offenders)}")

    def quantize(self, model: nn.Module, spec: QuantSpec, options: Any, calibration: Calibration | None) -> Quantized:
        """Replace the chosen modules of `model`, which is consumed; calibrate where the scheme is static."""
        import torch

        from backends.core.rest import store_rest, stored_bits
        from backends.core.tied import tie

        self.check(model, spec, options)
        model.eval()
        original_bytes = size_bytes(model)
        everything, targets = candidates_for(model, spec), chosen(model, spec)
        own = {target.candidate.name: target.spec for target in targets}
        with torch.no_grad():
            course = self.replace(model, targets, options, calibration)
            for target in targets:
                if target.candidate.lookup:
                    tie(model, target.candidate.name, target.candidate.lookup, self.rows)
            stored = store_rest(model, spec.rest, list(own))
            layers = tuple(
                self._report(model, c, own[c.name], options) if c.name in own else unrequested(c, spec, stored_bits(c))
                for c in everything
            )
        notes = [note for asked in dict.fromkeys(own.values()) for note in self.notes(asked, options)]
        told = tuple(dict.fromkeys(note for note in (*notes, *course, stored) if note))
        return Quantized(model, QuantReport(layers, size_bytes(model), original_bytes, told), self.name, spec, options)

    def replace(
        self, model: nn.Module, targets: list[Target], options: Any, calibration: Calibration | None
    ) -> tuple[str, ...]:
        """Put the quantized modules into `model`: convert, observe where calibration is needed, freeze.

        Returns:
            What the report should say about how it went, beside `notes`.
        """
        for target in targets:
            model.set_submodule(target.candidate.name, self.convert(target.candidate, target.spec, options))
        watched = {target.candidate.name for target in targets if self.calibrates(target.spec, options)}
        if watched:
            self.observe_all(model, watched, calibration)
        for target in targets:
            name = target.candidate.name
            model.set_submodule(name, self.freeze(model.get_submodule(name)))
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
        return LayerReport(
            candidate.name,
            candidate.kind,
            tuple(weight.shape),
            spec.weight_code,
            code,
            reason,
            stored * 8,
            float(error),
            lookup=candidate.lookup,
        )


def _by_token(activations: Activations | None) -> bool:
    return activations is not None and activations.granularity == "per_token"


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
