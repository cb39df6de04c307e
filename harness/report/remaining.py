"""What most of a model's bytes are, in words: the first thing to ask where a model is larger than its bits let hope."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]
_CALLED = {
    "embedding": "embedding",
    "tied": "embedding",
    "head": "head",
    "linear": "linear layers",
    "conv": "convolutions",
}


def largest_part(size: int, layers: Iterable[Row]) -> str | None:
    """The part that has most of the bytes, with its share and its bits a weight; `None` where layers are not known.

    A head that is the embedding stands among the layers twice; it is counted once, which shows in that not both fit
    into the whole.

    Args:
        size: of the model, in bytes.
        layers: as `LayerReport` has them.

    >>> tied = {"stored_bits": 640, "effective_bits": 32.0}
    >>> largest_part(100, [{"kind": "embedding", **tied}, {"kind": "head", **tied}])
    '80% embedding, 32 bits'
    """
    known = [layer for layer in layers if layer.get("stored_bits")]
    if sum(layer["stored_bits"] for layer in known) > 8 * size:
        known = [layer for layer in known if layer["kind"] != "head"]
    bits: dict[str, float] = defaultdict(float)
    weights: dict[str, float] = defaultdict(float)
    for layer in known:
        called = _CALLED.get(layer["kind"], str(layer["kind"]))
        bits[called] += layer["stored_bits"]
        weights[called] += layer["stored_bits"] / layer["effective_bits"]
    if not bits:
        return None
    most = max(bits, key=lambda called: bits[called])
    return f"{bits[most] / 8 / size:.0%} {most}, {bits[most] / weights[most]:.3g} bits"
