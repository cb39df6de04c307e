"""What an unfinished run lacks, in words."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.reading import Place, RecordedRun

_NAMED = 6
"""Configurations; beyond these and one more the others are counted."""


def unfinished_sentence(run: RecordedRun, places: Sequence[Place]) -> str:
    """How many of the planned cells have no record, and which: the first by configuration, with its splits."""
    planned = run.planned()
    several = len({cell["model"] for cell in planned}) > 1
    splits: dict[str, list[str]] = {}
    for place in places:
        name = f"{place.model} {place.configuration}" if several else place.configuration
        splits.setdefault(name, []).append(place.split)
    named = [f"{name} on {', '.join(own)}" for name, own in splits.items()]
    more = [f"and {len(named) - _NAMED} configurations more"] if len(named) > _NAMED + 1 else []
    shown = named[:_NAMED] if more else named
    return f"unfinished: {len(places)} of {len(planned)} planned cells have no record: {'; '.join([*shown, *more])}"
