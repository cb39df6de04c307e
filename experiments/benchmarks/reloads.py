"""Whether what every engine saves comes back bit for bit in a new process, on Whisper's and Moonshine's architecture.

    python -m experiments.benchmarks.reloads > experiments/benchmarks/reloads.txt

Every configuration that a backend says it supports is quantized, saved, and loaded in one new process: the tokens that
it generates are compared, and, where the model is one of torch, its logits, bit by bit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backends import AsrQuantError, load, quantize_spec
from backends.testing import Case
from tests.backends.cases import ENGINES, SUPPORTED
from tests.conftest import build_prompted_whisper

FEW = 40
"""Tokens at most."""


def moonshine() -> Any:
    """A Moonshine with random weights."""
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 512}
    layers = {"encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1}
    return MoonshineForConditionalGeneration(MoonshineConfig(vocab_size=128, pad_token_id=0, **shape, **layers)).eval()


def inputs(kind: str) -> dict[str, Tensor]:
    """Two utterances of noise, and seven tokens of each."""
    generator = torch.Generator().manual_seed(1)
    found = {
        "whisper": ("input_features", torch.randn(2, 80, 300, generator=generator)),
        "moonshine": ("input_values", torch.randn(2, 16_000, generator=generator)),
    }
    return dict([found[kind]], decoder_input_ids=torch.randint(3, 100, (2, 7), generator=generator))


def said(model: Any, kind: str) -> list[Tensor]:
    """Tokens, and logits of a model of torch."""
    given = inputs(kind)
    if isinstance(model, nn.Module):
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in given.items()}
    prompt = {"language": "en", "task": "transcribe"} if kind == "whisper" else {}
    name = next(iter(given))
    with torch.no_grad():
        tokens = model.generate(**{name: given[name]}, max_new_tokens=FEW, **prompt)
        return [tokens, model(**given).logits] if isinstance(model, nn.Module) else [tokens]


def quantized(case: Case, kind: str, directory: Path) -> list[Tensor] | None:
    """What the quantized model said, saved before it said it; `None` where this architecture is refused."""
    model = {"whisper": build_prompted_whisper, "moonshine": moonshine}[kind]()
    try:
        found = quantize_spec(model, case.spec, case.backend, dict(case.options), [inputs(kind)] * 2)
    except AsrQuantError:
        return None
    found.save(directory)
    return said(found.model, kind)


def reload(kind: str, directories: Sequence[str]) -> None:
    """Load models, and keep what they say beside them; in a process of its own."""
    for directory in directories:
        torch.save(said(load(directory).model, kind), f"{directory}/reloaded.pt")


def equal(kind: str, cases: Sequence[Case], root: Path) -> dict[Case, bool | None]:
    """By case, whether it came back; `None` where it was refused."""
    before = {case: quantized(case, kind, root / str(case)) for case in cases}
    done = [str(root / str(case)) for case, answer in before.items() if answer is not None]
    subprocess.run([sys.executable, "-m", "experiments.benchmarks.reloads", kind, *done], check=True)
    found: dict[Case, bool | None] = dict.fromkeys(cases)
    for case, answer in before.items():
        if answer is not None:
            again = torch.load(root / str(case) / "reloaded.pt", weights_only=True)
            found[case] = all(torch.equal(one, two) for one, two in zip(answer, again, strict=True))
    return found


def group(case: Case) -> tuple[str, str, str]:
    """Cases that share a row."""
    return case.backend, str(case.spec.scheme), str(case.spec.format)


def main() -> None:
    """Print a row for every backend, scheme and format."""
    torch.set_num_threads(1)
    if sys.argv[1:]:
        reload(sys.argv[1], sys.argv[2:])
        return
    cases = sorted([*SUPPORTED, *ENGINES], key=group)
    results: dict[str, dict[Case, bool | None]] = defaultdict(dict)
    for kind in ("whisper", "moonshine"):
        with tempfile.TemporaryDirectory() as root:
            results[kind] = equal(kind, cases, Path(root))
    print("configurations that came back bit for bit in a new process, of those that can be done: tokens and logits,")
    print("of what CTranslate2 computes tokens\n")
    print(f"{'backend':<15}{'scheme':<13}{'format':<10}{'bits':<17}{'Whisper':>10}{'Moonshine':>12}")
    for (backend, scheme, number), members in groupby(cases, key=group):
        own = list(members)
        bits = " ".join(map(str, sorted({case.spec.bits or 0 for case in own}, reverse=True)))
        columns = [tally([results[kind][case] for case in own]) for kind in results]
        print(f"{backend:<15}{scheme:<13}{number:<10}{bits:<17}{columns[0]:>10}{columns[1]:>12}")
    totals = [tally(list(results[kind].values())) for kind in results]
    print(f"{'all':<55}{totals[0]:>10}{totals[1]:>12}")


def tally(found: Sequence[bool | None]) -> str:
    """Such as `4 of 4`."""
    possible = [one for one in found if one is not None]
    return f"{sum(possible)} of {len(possible)}" if possible else "refused"


if __name__ == "__main__":
    main()
