"""Where the numbers come from: environment, identity of the cells, and what was resampled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness._printing import counted
from harness.experiment.cell import CellStatus
from harness.report.page._run import PageRun
from harness.stats import FEWEST_BLOCKS

_OF_THE_CELL = ("spec", "batches")
"""Parts of an identity that differ from cell to cell; the table of results shows them."""

_SHOWN = 8
"""Entries of a list of tokens."""


@dataclass(frozen=True)
class Fact:
    """One thing that is known of the run's cells, and its values: one, unless cells differ in it."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """All that the section shows."""

    environment: tuple[Fact, ...]
    identity: tuple[Fact, ...]
    rules: tuple[Fact, ...]
    cells: tuple[tuple[str, str, str], ...]
    blocks: tuple[str, ...]


def provenance(run: PageRun) -> Provenance:
    """Environment and identity of all finished cells, whatever their status."""
    environment: dict[str, dict[str, None]] = {}
    identity: dict[str, dict[str, None]] = {}
    rules: dict[str, dict[str, None]] = {}
    for row in run.rows:
        stored = run.stored.finished(row["cell_id"])
        if stored is not None:
            own = {key: value for key, value in stored["identity"].items() if key not in _OF_THE_CELL}
            _collect(identity, own)
            _collect(environment, run.stored.environment(row["cell_id"]))
            _collect(rules, {key: _brief(value) for key, value in _rules(stored).items()})
    return Provenance(
        _facts(environment),
        _facts(identity),
        _facts(rules),
        tuple((row["cell_id"], run.label(row), row["split"]) for row in run.rows),
        tuple(_blocks(run)),
    )


def _rules(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rules of the generation configuration of one cell; earlier versions did not record them."""
    if stored["status"] != CellStatus.DONE:
        return {}
    rules: Mapping[str, Any] = stored.get("rules", {"rules": "not recorded"})
    return rules or {"rules": "none"}


def _brief(value: Any) -> Any:
    """A long list by its beginning and its length."""
    if isinstance(value, list) and len(value) > _SHOWN:
        return f"{json.dumps(value[:_SHOWN])[:-1]}, …] ({len(value)})"
    return value


def _collect(found: dict[str, dict[str, None]], values: Mapping[str, Any]) -> None:
    for name, value in _flat(values):
        found.setdefault(name, {})[value] = None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names of leaves, joined by points, with their values as text; what is empty is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _facts(found: Mapping[str, Mapping[str, None]]) -> tuple[Fact, ...]:
    return tuple(Fact(name, tuple(values)) for name, values in sorted(found.items()))


def _blocks(run: PageRun) -> Iterator[str]:
    """What was resampled on every split, in words."""
    for split in run.splits:
        row = next((r for r in run.study.scored if r["split"] == split), None)
        if row is None:
            continue
        sample = run.study.sample(row["cell_id"])
        blocks = len(sample.block_names)
        more = ""
        if sample.blocked_by == "utterance":
            more = " Speakers are not known, so utterances were taken as independent: intervals are too narrow."
        if blocks < FEWEST_BLOCKS:
            more += " With fewer than six the permutation test cannot reach .05, whatever the difference."
        yield f"On {split}: {counted(blocks, sample.blocked_by)}.{more}"
