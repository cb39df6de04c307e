"""What a run measured of a model, as the Open ASR Leaderboard takes it: a file of the model's own repository.

The names of its tasks are those of `.eval_results/open_asr_leaderboard.yaml` in repositories that are listed there
(huggingface/open_asr_leaderboard, pull request template; 2026).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.experiment.config import Experiment
from harness.experiment.tables import Data
from harness.records.files import replacing, writing
from harness.report.labels import remarks_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

Row = Mapping[str, Any]
FILE = Path(".eval_results") / "open_asr_leaderboard.yaml"
_BENCHMARK = "hf-audio/open-asr-leaderboard"
_TASKS = {
    "ami": "ami_wer",
    "earnings22": "earnings22_wer",
    "gigaspeech": "gigaspeech_wer",
    "librispeech-clean": "librispeech_clean_wer",
    "librispeech-other": "librispeech_other_wer",
    "spgispeech": "spgispeech_wer",
    "tedlium": "tedlium_wer",
    "voxpopuli": "voxpopuli_wer",
}


def entries(rows: Sequence[Row], experiment: Experiment, date: str) -> list[EvalResultEntry]:
    """One entry for every test set of the leaderboard that was heard whole and as it is, and their mean if all were.

    Speed is left out: there it is that of one kind of GPU.

    Args:
        rows: of one configuration.
        experiment: that was asked for.
        date: on which it was measured, ISO 8601.
    """
    from huggingface_hub import EvalResultEntry

    whole = {data.label: data.split for data in experiment.data if _is_whole(data)}
    own = [row for row in rows if row["split"] in whole and row["normalizer"] == "whisper-english"]
    rates = {whole[row["split"]]: 100 * row["wer"] for row in own}
    found = {_TASKS[split]: rates[split] for split in _TASKS if split in rates}
    if len(found) == len(_TASKS):
        found["mean_wer"] = fmean(rates.values())
    notes = "; ".join(_notes(own, experiment)) if own else ""
    return [
        EvalResultEntry(dataset_id=_BENCHMARK, task_id=task, value=round(value, 2), date=date, notes=notes)
        for task, value in found.items()
    ]


def write(directory: Path, found: Sequence[EvalResultEntry]) -> Path:
    """Write entries into a model's directory, in the place of those that were written before.

    Raises:
        OutputError: the file cannot be written.
    """
    import yaml
    from huggingface_hub import eval_result_entries_to_yaml

    path = directory / FILE
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(eval_result_entries_to_yaml(list(found)), sort_keys=False), encoding="utf-8"
        )
    return path


def _is_whole(data: Data) -> bool:
    """Whether nothing is left out of a set of the leaderboard and nothing done to it."""
    return data == Data(dataset="open_asr", split=data.split, name=data.name) and data.split in _TASKS


def _notes(rows: Sequence[Row], experiment: Experiment) -> Iterator[str]:
    decoding = experiment.decoding
    yield f"asrquant, {rows[0]['configuration']}"
    yield "texts of hf-audio/esb-datasets-test-only-sorted, Whisper's English normaliser"
    yield f"{decoding.num_beams} beam{'s' * (decoding.num_beams > 1)}, long audio: {decoding.long_audio}"
    for row in rows:
        yield from (f"{row['split']}: {remark}" for remark in remarks_of(row["reason"]))
