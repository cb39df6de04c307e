"""What the Open ASR Leaderboard takes, read back by the hub's own parser."""

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from harness.errors import OutputError
from harness.experiment.config import load_experiment
from harness.report.leaderboard import FILE, entries, write

SETS = (
    "ami",
    "earnings22",
    "gigaspeech",
    "librispeech-clean",
    "librispeech-other",
    "spgispeech",
    "tedlium",
    "voxpopuli",
)
DATE = "2026-11-27T05:00:00+00:00"


def experiment(tmp_path, *tables):
    path = tmp_path / "asked.toml"
    head = 'name = "asked"\n[[model]]\npath = "embedded"\n[[grid]]\nbackend = "none"\nscheme = "none"\nbits = 32\n'
    head += 'format = "fp32"\ngranularity = "per_tensor"\n'
    path.write_text(head + "".join(f'[[data]]\ndataset = "open_asr"\n{table}\n' for table in tables))
    return load_experiment(path)


def row(split, wer, normalizer="whisper-english"):
    reason = "4 of 480 utterances were cut at the end of the model's window" if split == "ami" else None
    return {"split": split, "wer": wer, "configuration": "hqq int4", "normalizer": normalizer, "reason": reason}


def read_back(directory):
    return parse_eval_result_entries(yaml.safe_load((directory / FILE).read_text()))


def test_all_sets_and_their_mean(tmp_path):
    asked = experiment(tmp_path, *(f'split = "{name}"' for name in SETS))
    rows = [row(name, 0.01 * place + 0.00012) for place, name in enumerate(SETS, 1)]
    assert write(tmp_path, entries(rows, asked, DATE)) == tmp_path / ".eval_results" / "open_asr_leaderboard.yaml"
    found = {entry.task_id: entry.value for entry in read_back(tmp_path)}
    assert found.pop("mean_wer") == 4.51
    assert found["librispeech_clean_wer"] == 4.01
    assert sorted(found) == sorted(f"{name.replace('-', '_')}_wer" for name in SETS)
    (first, *_) = read_back(tmp_path)
    assert (first.dataset_id, first.date) == ("hf-audio/open-asr-leaderboard", DATE)
    assert "hqq int4" in first.notes
    assert "ami: 4 of 480 utterances were cut" in first.notes


def test_parts_of_sets_and_conditions_are_left_out(tmp_path):
    asked = experiment(
        tmp_path,
        'split = "ami"\nlimit = 100',
        'split = "tedlium"\nnoise_db = 10',
        'split = "voxpopuli"\nmax_seconds = 20',
        'split = "gigaspeech"\nname = "giga"',
        'split = "earnings22"',
    )
    labels = [data.label for data in asked.data]
    rows = [row(label, 0.1, "none" if label == "earnings22" else "whisper-english") for label in labels]
    assert [entry.task_id for entry in entries(rows, asked, DATE)] == ["gigaspeech_wer"]
    assert entries(rows[:3], asked, DATE) == []


def test_a_place_that_cannot_be_written(tmp_path):
    asked = experiment(tmp_path, 'split = "ami"')
    (tmp_path / ".eval_results").write_text("")
    with pytest.raises(OutputError, match="eval_results"):
        write(tmp_path, entries([row("ami", 0.1)], asked, DATE))
