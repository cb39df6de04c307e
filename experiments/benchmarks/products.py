"""What a real encoder gains on this processor where its float32 products go through oneDNN instead of torch's choice.

    python -m experiments.benchmarks.products MODEL_DIRECTORY...

One thread, both ways in turns on the same batch of eight windows, medians of five. On x86-64 torch calls MKL for
float32; `mkldnn._linear_pointwise` calls oneDNN. The difference of the encoder's states is given beside the gain.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks._worker import in_worker
from harness import cost
from harness.recognition.loading import load_recognizer

BATCH = 8
TURNS = 5


def through_onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` by oneDNN: x [..., in], weight [out, in], bias [out]; gives [..., out]."""
    product: Any = torch.ops.mkldnn._linear_pointwise
    return product(x, weight, bias, "none", [], "")


def rates() -> tuple[float, float]:
    """GFLOP/s of one product of an encoder's shape, by torch and by oneDNN; the best of 20."""
    x, weight = torch.randn(1500, 512), torch.randn(2048, 512)

    def rate(way: Callable[..., torch.Tensor]) -> float:
        return 2 * 1500 * 512 * 2048 / min(_seconds(lambda: way(x, weight)) for _ in range(20)) / 1e9

    return rate(torch.nn.functional.linear), rate(through_onednn)


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def encoder(directory: str) -> str:
    """The line of one model."""
    model = load_recognizer(Path(directory), "float32", "cpu").model
    states: Any = model.get_encoder()
    features = torch.randn(BATCH, model.config.num_mel_bins, 2 * model.config.max_source_positions)
    plain, found, took = torch.nn.functional.linear, {}, {"torch": [], "oneDNN": []}
    for _ in range(TURNS + 1):
        for name, way in (("torch", plain), ("oneDNN", through_onednn)):
            torch.nn.functional.linear = way
            took[name].append(_seconds(lambda name=name: found.update({name: states(features).last_hidden_state})))
    torch.nn.functional.linear = plain
    one, other = (statistics.median(seconds[1:]) for seconds in took.values())
    apart = float((found["torch"] - found["oneDNN"]).norm() / found["torch"].norm())
    name = Path(directory).name
    return f"{name:18}{one:9.2f} s{other:9.2f} s{one / other:7.2f}   states differ by {apart:.1e} of their norm"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with torch.no_grad():
        machine, (one, other) = cost.environment(1, ""), rates()
        print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}, batches of {BATCH}")
        print(f"product 1500 x 512 x 2048: torch {one:.0f} GFLOP/s, oneDNN {other:.0f}\n")
        print(f"{'encoder of':18}{'torch':>11}{'oneDNN':>11}{'gain':>7}")
        for directory in sys.argv[1:]:
            print(encoder(directory), flush=True)


if __name__ == "__main__":
    in_worker(main)
