"""Taking over finished cells of a published run into a run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import cost
from harness._printing import counted
from harness.experiment.cell import Cell, CellStatus
from harness.experiment.plan import baseline_of
from harness.records.layout import CellRecord
from harness.records.published import PublishedRun
from harness.records.recording import RunDirectory

_FINAL = (CellStatus.DONE, CellStatus.UNSUPPORTED)
"""What failed elsewhere, for want of memory or time, is tried here."""
_OF_MACHINE = (
    *("rtfx", "quantize_seconds", "feature_seconds", "decode_seconds", "compute_seconds", "waited_seconds"),
    *("quantize_peak_bytes", "peak_rss_bytes", "peak_device_bytes"),
)
"""What is measured of a machine: another processor's does not stand beside this one's."""


@dataclass(frozen=True)
class Takeover:
    """What became of the cells of a published run.

    Attributes:
        taken: how many were written into the run directory.
        repeated: full-precision cells that are done again.
        strange: how many are none of the planned cells.
        reasons: in what these differ from the planned ones.
    """

    taken: int
    repeated: int
    strange: int
    reasons: tuple[str, ...]

    def sentences(self, name: str) -> Iterator[str]:
        """What to tell people of it."""
        yield f"{name}: {counted(self.taken, 'finished cell')} taken over"
        if self.repeated:
            yield f"{name}: {self.repeated} of full precision done again, since what is missing is compared with them"
        if self.strange:
            why = "; ".join(self.reasons)
            yield f"{name}: {counted(self.strange, 'cell')} not used, since no planned cell has their id: {why}"


def take_over(run: PublishedRun, wanted: Sequence[Cell], planned: Sequence[Cell], directory: RunDirectory) -> Takeover:
    """Write the cells of a published run that are wanted, and not finished in a directory, into it.

    A cell's id is a hash of all that can change a hypothesis: what another version, another architecture, another
    model or other speech gave is never taken over. Times and memory are left behind where another processor took them.

    Args:
        run: where they are published.
        wanted: the cells to be done.
        planned: these, and others of the experiment that may have been published.
        directory: where they are written.

    Raises:
        OutputError: it cannot be written.
    """
    lacking = [cell for cell in wanted if directory.finished(cell.cell_id) is None]
    known = [cell for cell in lacking if _status(cell, run) in _FINAL]
    missing = [cell for cell in lacking if _status(cell, run) not in _FINAL]
    repeated = {cell.cell_id for cell in known if cell.configuration.is_baseline and _is_needed(cell, missing)}
    taken = [cell for cell in known if cell.cell_id not in repeated]
    for cell in taken:
        directory.write(_record(cell, run))
    ids = {cell.cell_id for cell in planned}
    strange = [cell_id for cell_id in run.cells if cell_id not in ids]
    return Takeover(len(taken), len(repeated), len(strange), tuple(_reasons(run, strange, planned)))


def _status(cell: Cell, run: PublishedRun) -> str | None:
    return (run.finished(cell.cell_id) or {}).get("status")


def _is_needed(baseline: Cell, missing: Sequence[Cell]) -> bool:
    """Whether a full-precision cell is to be run for others that are still missing.

    Its pass over the references is what theirs are compared with, token by token; a published cell does not have it.
    """
    return any(
        cell.data == baseline.data and baseline_of(cell.configuration) == baseline.configuration
        for cell in missing
        if not cell.configuration.is_baseline
    )


def _record(cell: Cell, run: PublishedRun) -> CellRecord:
    """A published cell as it was recorded; it is called as the plan calls it, which knows where its model lies."""
    content, environment = run.finished(cell.cell_id) or {}, run.environment(cell.cell_id)
    if environment.get("processor") != cost.environment(1, "")["processor"]:
        content["measured"] = {k: v for k, v in content["measured"].items() if k not in _OF_MACHINE}
    about = cell.about(content["status"], content["reason"])
    names = {key: about[key] for key in ("configuration_id", "configuration", "model", "split")}
    return CellRecord(
        cell.cell_id,
        {**content, **names},
        [*run.utterances(cell.cell_id), *run.undecodable(cell.cell_id)],
        run.layers(cell.cell_id),
        {**environment, "taken_over_from": run.path.resolve().name},
        f"taken over from the published run {run.path.resolve().name}, which keeps no log\n",
        run.operations(cell.cell_id),
    )


def _reasons(run: PublishedRun, strange: Sequence[str], planned: Sequence[Cell]) -> Iterator[str]:
    """What the identities of published cells differ in from those of the same place in the plan, once each."""
    by_place = {(c.configuration.model.label, c.configuration.label, c.data.label): c.identity for c in planned}
    found: dict[str, None] = {}
    for cell_id in strange:
        content = run.finished(cell_id) or {}
        own = by_place.get((content["model"], content["configuration"], content["split"]))
        differing = ["the plan has no such cell"] if own is None else list(_differing(content["identity"], own))
        found.update(dict.fromkeys(differing))
    yield from found


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """What two identities differ in, with both values where they are short."""
    for key in sorted({*there, *here}):
        one, other = there.get(key), here.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from (f"{key}.{text}" for text in _differing(one, other))
        elif one != other:
            yield f"{key} is {one} there and {other} here"
