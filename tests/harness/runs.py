"""Finished runs made by hand: the real configurations of an experiment file, with transcripts of our choosing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.experiment.cell import Cell, CellStatus, Configuration
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.metrics import align, count_errors
from harness.records.layout import CellRecord
from harness.records.reading import study_of
from harness.records.recording import RunDirectory
from harness.records.results import result_rows
from harness.stats import Study

EXPERIMENT = load_experiment(Path("experiments/embedded.toml"))
PLANNED = configurations(EXPERIMENT)
SPEAKERS, UTTERANCES, WORDS = 12, 4, 20

Errors = Callable[[Configuration, str, int, int], int | None]
"""How many words of an utterance are wrong, given configuration, split, speaker and utterance; `None` if it failed."""


def as_asked(size: int | str, choose: Callable[[], int]) -> Any:
    """The batch size of an experiment that gives a number."""
    return size


def write_run(path: Path, errors: Errors, chosen: Sequence[Configuration] = PLANNED) -> Study:
    """Write a run of `chosen` on both splits of the embedded benchmark; return it as the statistics see it."""
    directory = RunDirectory(path)
    cells = [Cell(c, data, {}, f"{c.id}-{data.split}", ()) for c in chosen for data in EXPERIMENT.data]
    for cell in cells:
        directory.write(_record(cell, errors))
    directory.write_results(result_rows(directory, cells))
    return study_of(directory)


def _record(cell: Cell, errors: Errors) -> CellRecord:
    configuration, split = cell.configuration, cell.data.label
    wrong = {(s, u): errors(configuration, split, s, u) for s in range(SPEAKERS) for u in range(UTTERANCES)}
    failed = None in wrong.values()
    content = {
        "cell_id": cell.cell_id,
        "identity": {},
        "status": CellStatus.FAILED if failed else CellStatus.DONE,
        "reason": "it [b]broke[/b]" if failed else "",
        "measured": {} if failed else _sizes(configuration),
    }
    rows = [] if failed else [utterance(split, s, u, count or 0) for (s, u), count in wrong.items()]
    return CellRecord(cell.cell_id, content, rows, environment={"python": "3.11", "packages": {}})


def _sizes(configuration: Configuration) -> dict[str, Any]:
    bits = configuration.spec.bits or 32
    size = bits * 1_000_000 + 1000 * len(configuration.label)
    reduction = 1 - size / 32_000_000
    return {"size_bytes": size, "file_bytes": size, "size_reduction": reduction, "effective_bits": float(bits)}


def utterance(split: str, speaker: int, number: int, wrong: int) -> dict[str, Any]:
    """A stored utterance, its first `wrong` words misheard."""
    said = [f"w{i}" for i in range(WORDS)]
    reference, hypothesis = " ".join(said), " ".join(["x"] * wrong + said[wrong:])
    counts = count_errors(reference, hypothesis)
    return {
        "id": f"{split}-{speaker}-{number}",
        "speaker": f"{split}{speaker}",
        "reference": reference,
        "hypothesis": hypothesis,
        "normalised_reference": reference,
        "normalised_hypothesis": hypothesis,
        "alignment": align(reference.split(), hypothesis.split()),
        "substitutions": counts.words.substitutions,
        "deletions": counts.words.deletions,
        "insertions": counts.words.insertions,
        "reference_words": counts.words.reference,
        "character_errors": counts.characters.errors,
        "reference_characters": counts.characters.reference,
        "empty": False,
        "loop": False,
        "tokens": [1, 2],
        "seconds": 2.0,
        "reference_nll": WORDS * (0.1 + wrong / WORDS),
        "reference_tokens": WORDS,
    }
