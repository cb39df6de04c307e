"""Seconds that encoders of given shapes take on this machine, measured on random weights.

A program of its own, so that who plans a run need not load torch; started as often at once as a run has workers, it
shows what they take from each other:

    python -m harness.cost.trial THREADS

It says `ready` once torch is loaded, reads a JSON list of `{"shape": ..., "dtype": ...}` (shapes are those of
`harness.resolution.architectures`)
from a line of standard input, and answers with a list of seconds for one recording. Of the layers, which are alike,
one is computed and counted as often as there are.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEAST, _SECONDS = 3, 0.4
"""Passes that are timed at least, and for how long they go on."""


class _Layer(nn.Module):
    """Attention and feed-forward, each after its normalisation, as all our families have them."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys, self.values, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: Tensor) -> Tensor:
        """The states after it, (1, positions, width)."""
        normal = self.first(states)
        parts = (linear(normal).unflatten(-1, (self._heads, -1)) for linear in (self.queries, self.keys, self.values))
        attended = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts))
        states = states + self.out(attended.transpose(1, 2).flatten(2))
        result: Tensor = states + self.down(functional.gelu(self.up(self.second(states))))
        return result


def seconds_of(shape: Mapping[str, Any], dtype: str) -> float:
    """Seconds of the encoder for one recording; medians."""
    kind = getattr(torch, dtype)
    convolutions: list[nn.Module] = []
    for channels, width, kernel, stride in shape["convolutions"]:
        convolutions += [nn.Conv1d(channels, width, kernel, stride), nn.GELU()]
    front = nn.Sequential(*convolutions).to(kind)
    layer = _Layer(shape["width"], shape["inner"], shape["heads"]).to(kind)
    speech = torch.randn(1, shape["convolutions"][0][0], shape["length"]).to(kind)
    with torch.no_grad():
        states = front(speech).transpose(1, 2).contiguous()
        return _timed(lambda: front(speech)) + shape["layers"] * _timed(lambda: layer(states))


def _timed(action: Callable[[], object]) -> float:
    action()
    took: list[float] = []
    while len(took) < _LEAST or sum(took) < _SECONDS:
        began = _clock()
        action()
        took.append(_clock() - began)
    return statistics.median(took)


def _clock() -> float:
    """This process's own seconds, whatever else runs at the moment; several threads have their seconds at once."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def main() -> None:
    """Answer one line."""
    torch.set_num_threads(int(sys.argv[1]))
    print("ready", flush=True)
    print(json.dumps([seconds_of(asked["shape"], asked["dtype"]) for asked in json.loads(sys.stdin.readline())]))


if __name__ == "__main__":
    main()
