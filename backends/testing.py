"""The contract of a backend, to be run on yours too:

    from backends.testing import check_backend

    def test_it_keeps_the_contract(tmp_path):
        check_backend("mine", tmp_path)

Everything that its `capability` says is supported, as an `nn.Module` of layers, is done on a small Whisper with random
weights: it stays close to full precision, reports what came, counts the bytes that the file has, and comes back bit for
bit in a new process. A broken promise is an `AssertionError` that names the case.
"""

from __future__ import annotations

import filecmp
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.core.base import Form, Supported, Unsupported
from backends.core.checkpoint import Quantized
from backends.core.codes import (
    BLOCK_SIZES,
    FORMAT_BITS,
    INTEGER_BITS,
    NumberFormat,
    PerChannel,
    PerGroup,
    PerTensor,
)
from backends.core.manifest import MANIFEST, WEIGHTS
from backends.core.quantize import capability, quantize_spec
from backends.core.recipes import shown
from backends.core.spec import QuantSpec, Scheme

if TYPE_CHECKING:
    from torch import Tensor

GRANULARITIES = (PerTensor(), PerChannel(), PerGroup(32), PerGroup(128))
LARGEST_ERROR = {None: 0.1, 1: 3.0, 2: 1.2, 3: 0.6, 4: 0.4}
"""Of the logits, relative to their norm, by bits; .15 for other widths."""
_NEW_TOKENS = 12
_RELOAD = """
import json, sys, torch
from backends import load
from backends.testing import answers
torch.set_num_threads(1)
inputs = torch.load(sys.argv[1], weights_only=True)
for directory in json.loads(sys.argv[2]):
    torch.save(answers(load(directory).model, inputs), directory + "/reloaded.pt")
"""


@dataclass(frozen=True)
class Case:
    """A request."""

    backend: str
    spec: QuantSpec
    options: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        """All that tells it from others, fit for a directory's name."""
        spec = self.spec
        width = spec.bits if spec.format == "int" else ""
        own = "-".join(f"{k}={v}" for k, v in self.options)
        method = f"-{spec.method}" if spec.method else ""
        modules = "" if len(spec.modules) == 1 else "-" + "+".join(sorted(spec.modules))
        activations = f"-{spec.activations}" if spec.activations else ""
        sign = {None: "", True: "-symmetric", False: "-asymmetric"}[spec.symmetric]
        outputs = {None: "", True: "-outputs", False: "-float-outputs"}[spec.outputs]
        weights = f"{spec.format}{width}-{spec.granularity}{sign}"
        rest = "" if spec.rest == "fp32" else f"-{spec.rest}-rest"
        recipe = "".join(f"-{shown(rule)}" for rule in spec.recipe).replace(" ", "_").replace("*", "any")
        return f"{self.backend}-{spec.scheme}-{weights}{method}{modules}{activations}{outputs}{rest}{recipe}{own}"

    @property
    def form(self) -> Form | None:
        """What the quantized model will be; `None` where the backend does not support it."""
        answer = capability(self.spec, self.backend, dict(self.options))
        return answer.form if isinstance(answer, Supported) else None


@dataclass(frozen=True)
class Done:
    """A case that was done.

    Attributes:
        quantized: of the small Whisper.
        answers: logits and tokens of it; see `answers`.
        directory: saved in `before` and `after` it answered.
    """

    case: Case
    quantized: Quantized
    answers: Sequence[Tensor]
    directory: Path


def asked(backend: str, widths: Iterable[int] = INTEGER_BITS) -> list[Case]:
    """Every scheme, format, granularity and width, supported or not, everything else left to the backend."""
    found = []
    for scheme in Scheme:
        for number_format in NumberFormat:
            own = [FORMAT_BITS[number_format]] if number_format in FORMAT_BITS else widths
            blocks = [PerGroup(BLOCK_SIZES[number_format])] if number_format in BLOCK_SIZES else GRANULARITIES
            found += [
                Case(backend, QuantSpec(scheme, granularity, bits, number_format))
                for granularity in blocks
                for bits in own
            ]
    return found


def small_whisper(vocabulary: int = 512, width: int = 128, frames: int = 300, **changes: Any) -> Any:
    """A Whisper with random weights, the same in every call; every weight row is non-zero."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    settings = {
        "vocab_size": vocabulary,
        "d_model": width,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * width,
        "decoder_ffn_dim": 2 * width,
        "max_source_positions": frames // 2,
        "max_target_positions": 448,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**{**settings, **changes})).eval()
    model.get_input_embeddings().weight.data[0] = 0.01
    return model


def _whisper() -> Any:
    """The small Whisper with biases: transformers begins with zeros, which would hide one that is lost."""
    import torch

    model, generator = small_whisper(), torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def small_inputs() -> dict[str, Tensor]:
    """What the small Whisper is shown: `input_features`, (2, 80, 300), and `decoder_input_ids`, (2, 7)."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return {
        "input_features": torch.randn(2, 80, 300, generator=generator),
        "decoder_input_ids": torch.randint(3, 500, (2, 7), generator=generator),
    }


def answers(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Logits, (batch, tokens, vocabulary), and generated tokens, (batch, tokens), on inputs in the model's dtype."""
    import torch

    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    own = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad():
        tokens = model.generate(input_features=own["input_features"], max_new_tokens=_NEW_TOKENS)
        return [model(**own).logits, tokens]


def do(case: Case, root: Path) -> Done:
    """Quantize the small Whisper, and save it before and after it answered."""
    inputs, directory = small_inputs(), root / str(case)
    quantized = quantize_spec(_whisper(), case.spec, case.backend, dict(case.options), [inputs] * 2)
    quantized.save(directory / "before")
    given = answers(quantized.model, inputs)
    quantized.save(directory / "after")
    return Done(case, quantized, given, directory)


def reload(done: Iterable[Done], root: Path) -> None:
    """Load all that was saved in one new process, which keeps its answers for `check_reloaded`."""
    import torch

    torch.save(small_inputs(), root / "inputs.pt")
    directories = json.dumps([str(one.directory / "before") for one in done])
    told = subprocess.run(
        [sys.executable, "-c", _RELOAD, str(root / "inputs.pt"), directories], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr


def check_close(done: Done) -> None:
    """The logits are near those of full precision, and equal where nothing was asked."""
    expected = _full_precision()
    logits = done.answers[0].float()
    error = float((logits - expected).norm() / expected.norm())
    assert math.isfinite(error), f"{done.case}: its logits are not numbers"
    assert error <= LARGEST_ERROR.get(done.case.spec.bits, 0.15), f"{done.case}: the logits' relative error is {error}"
    assert (error == 0) == (done.case.backend == "none"), f"{done.case}: the logits' relative error is {error}"


@cache
def _full_precision() -> Tensor:
    """The small Whisper's own logits."""
    return answers(_whisper(), small_inputs())[0]


def check_report(done: Done) -> None:
    """Every layer says what was asked and what came; bits are counted."""
    case, report = done.case, done.quantized.report
    heads = [layer.name for layer in report.layers if layer.kind in ("head", "tied")]
    assert heads == ["proj_out"], f"{case}: the report's heads are {heads}"
    requested = [layer for layer in report.layers if layer.requested is not None]
    assert bool(requested) == (case.backend != "none"), f"{case}: {len(requested)} layers were requested"
    for layer in report.layers:
        assert layer.requested is not None or layer.reason, f"{case}: {layer.name} was left out without a reason"
        if layer.effective is not None:
            assert layer.weight_error > 0, f"{case}: {layer.name} has no weight error"
            most = 1 if (case.spec.bits or 8) > 2 else 8  # of 2 bits and fewer, more is lost than is there
            assert layer.weight_error < most, f"{case}: {layer.name} has the weight error {layer.weight_error:.3g}"
            assert layer.effective_bits <= 32, f"{case}: {layer.name} has {layer.effective_bits} bits"


def check_bytes(done: Done) -> None:
    """The counted bytes are those of the file, within 1 %, and stay when the model is used."""
    from backends.core.report import size_bytes

    report, file = done.quantized.report, done.directory / "before" / WEIGHTS
    with file.open("rb") as opened:
        header = int.from_bytes(opened.read(8), "little") + 8
    written = file.stat().st_size - header
    assert math.isclose(written, report.size_bytes, rel_tol=0.01), f"{done.case}: {written} bytes in the file"
    model: Any = done.quantized.model
    used = size_bytes(model)
    assert math.isclose(used, report.size_bytes, rel_tol=0.001), f"{done.case}: {used} bytes after use"


def check_files(done: Done) -> None:
    """Saving before and after it was used gives the same files."""
    for name in (WEIGHTS, MANIFEST, "config.json"):
        before, after = (done.directory / when / name for when in ("before", "after"))
        assert filecmp.cmp(before, after, shallow=False), f"{done.case}: {name} is another after use"


def check_reloaded(done: Done) -> None:
    """In a new process, after `reload`, the same logits came bit for bit, and the same tokens."""
    import torch

    found = torch.load(done.directory / "before" / "reloaded.pt", weights_only=True)
    for name, now, before in zip(("logits", "tokens"), found, done.answers, strict=True):
        assert torch.equal(now, before), f"{done.case}: other {name} after loading"
    assert found[1].shape[1] > 5, f"{done.case}: it generated nothing"


def _why_not(name: str) -> str:
    """What the backend answers to an ordinary request."""
    answer = capability(QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 8), name)
    return f": {answer.reason}" if isinstance(answer, Unsupported) else ""


CHECKS = (check_close, check_report, check_bytes, check_files, check_reloaded)


def check_backend(name: str, directory: Path, cases: Sequence[Case] = ()) -> list[Case]:
    """Run the contract.

    Args:
        name: of the backend.
        directory: for what is saved; empty.
        cases: more than `asked` has, such as other methods or options.

    Returns:
        The cases that were done: all that the backend supports, as layers.

    Raises:
        AssertionError: a promise is broken, or nothing is supported.
    """
    supported = [case for case in (*asked(name), *cases) if case.form is Form.LAYERS]
    assert supported, f"{name} supports nothing that can be checked{_why_not(name)}"
    done = [do(case, directory) for case in supported]
    reload(done, directory)
    for one in done:
        for check in CHECKS:
            check(one)
    return supported
