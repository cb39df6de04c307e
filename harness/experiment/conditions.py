"""What is done to the speech of a test set before it is transcribed. Pure values; `harness.datasets` does it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePath
from typing import Any

NOISES = ("white", "pink", "babble", "hum")
"""Kinds of noise that are made; any other is a directory of recordings."""
CLEAN = "clean"
"""The level of the factor `condition` at which nothing is done."""


@dataclass(frozen=True)
class Condition:
    """One combination of the keys of `[[data]]`, which say what each does; their defaults do nothing."""

    speed: float = 1.0
    pad_seconds: float = 0.0
    reverb: float = 0.0
    noise: str = "white"
    noise_db: float | None = None
    gain_db: float = 0.0
    telephone: bool = False

    @property
    def name(self) -> str:
        """What results call it, in the order in which things are done; empty where nothing is.

        >>> Condition(noise="babble", noise_db=5.0, telephone=True).name
        'babble 5 dB + telephone'
        """
        return " + ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        if self.speed != 1:
            yield f"speed {self.speed:g}"
        if self.pad_seconds:
            yield f"padded {self.pad_seconds:g} s"
        if self.reverb:
            yield f"reverb {self.reverb:g} s"
        if self.noise_db is not None:
            yield f"{self.noise if self.noise in NOISES else PurePath(self.noise).name} {self.noise_db:g} dB"
        if self.gain_db:
            yield f"gain {self.gain_db:+g} dB"
        if self.telephone:
            yield "telephone"

    @property
    def changed(self) -> dict[str, Any]:
        """The values that are no defaults, for a cell's identity; a key that is added later changes no earlier id."""
        return {key: value for key, value in asdict(self).items() if value != getattr(Condition, key)}

    def seconds(self, of_recording: float) -> float:
        """Length under this condition."""
        return of_recording / self.speed + 2 * self.pad_seconds


KEYS = tuple(field.name for field in fields(Condition))


def combinations(keys: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values of keys, of which some are lists; without noise its kind says nothing."""
    axes = [value if isinstance(value, list) else [value] for value in keys.values()]
    for values in itertools.product(*axes):
        one = dict(zip(keys, values, strict=True))
        none = one["noise_db"] in (None, math.inf)
        yield {**one, **({"noise_db": None, "noise": Condition.noise} if none else {})}
