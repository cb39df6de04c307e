"""What rounding its output with one scale leaves of the layer that does most damage, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rounded_outputs(document: Mapping[str, Any]) -> str:
    """A sentence about the most damaging layer of an analysis; empty where outputs are not rounded.

    >>> layer = {"name": "fc2", "divergence": 1.0, "output_range_ratio": 158.0}
    >>> for part in rounded_outputs({"output_bits": 8, "layers": [layer]}).split(": "):
    ...     print(part)
    The output of fc2 spans 158 standard deviations
    one 8-bit scale leaves 3.2 codes for what lies within one standard deviation of its mean.
    """
    bits = document.get("output_bits")
    worst = max(document["layers"], key=lambda layer: layer["divergence"])
    span = worst.get("output_range_ratio")
    if bits is None or span is None:
        return ""
    codes = 2 * (2**bits - 1) / span
    return (
        f"The output of {worst['name']} spans {span:.0f} standard deviations: one {bits}-bit scale leaves {codes:.2g} "
        "codes for what lies within one standard deviation of its mean."
    )
