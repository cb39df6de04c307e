"""The leaderboard's eight sets, by its rules, through the real clients against a hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from datasets import Audio, Dataset

from harness import grid
from harness.datasets import open_asr
from harness.embedded import SPEECH_DIRECTORY
from harness.report import __main__ as report
from tests.harness.hub import serving

SETS = {
    # set: configuration, split, text column
    "ami": ("ami", "test", "text"),
    "earnings22": ("earnings22", "test", "sentence"),
    "gigaspeech": ("gigaspeech", "test", "normalized_text"),
    "librispeech-clean": ("librispeech", "test.clean", "text"),
    "librispeech-other": ("librispeech", "test.other", "text"),
    "spgispeech": ("spgispeech", "test", "transcript"),
    "tedlium": ("tedlium", "test", "transcription"),
    "voxpopuli": ("voxpopuli", "test", "text"),
}
UNSCORED = ["", "  ", "ignore time segment in scoring", "Ignore_time segment in scoring.", "[noise]", "uh"]
EXPERIMENT = """
name = "leaderboard"
model = "embedded"
{data}
[decoding]
batch_size = 8
max_new_tokens = 30
[run]
device = "cpu"
[[published]]
model = "embedded"
source = "a table of ours"
wer = {{ ami = 12.5, voxpopuli = 7.25 }}
[[grid]]
backend = "quanto"
bits = 8
"""


def card():
    configurations = {}
    for configuration, split, _ in SETS.values():
        configurations.setdefault(configuration, []).append(split)
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
    return "\n".join([*lines, "---", ""])


def write_set(path, column, split):
    """Three utterances of the embedded speech, and as many unscored ones as there are kinds."""
    chapter = next(sorted((SPEECH_DIRECTORY / split).glob("*/1"))[0].glob("*.trans.txt"))
    lines = [line.partition(" ") for line in chapter.read_text().splitlines()[:3]]
    rows = [
        {
            "audio": {"path": f"{name}.flac", "bytes": (chapter.parent / f"{name}.ogg").read_bytes()},
            "dataset": "esb",
            column: text.capitalize() + ".",
            "id": name,
            "audio_length_s": 3.0,
        }
        for name, _, text in lines
    ]
    rows += [{**rows[0], column: text, "id": "same"} for text in UNSCORED]
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows).cast_column("audio", Audio(sampling_rate=16000)).to_parquet(path)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    root = tmp_path_factory.mktemp("esb")
    (root / "README.md").write_text(card())
    for configuration, split, column in SETS.values():
        spoken = "other" if split == "test.other" else "clean"
        write_set(root / configuration / f"{split}-00000-of-00001.parquet", column, spoken)
    return {("datasets", "hf-audio/esb-datasets-test-only-sorted"): root}


def in_a_process(arguments, endpoint, cache):
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


LISTING = """
import json, sys
from harness import datasets
from harness.experiment.tables import Data
found = {}
for name in sys.argv[1:]:
    corpus = datasets.get("open_asr").load(Data(dataset="open_asr", split=name))
    found[name] = [corpus.commit, [[u.id, u.speaker, u.text, len(u.waveform())] for u in corpus.utterances]]
print(json.dumps(found))
"""


def test_every_set_loads_without_what_is_not_scored(repositories, tmp_path):
    with serving(repositories) as endpoint:
        done = in_a_process(["-c", LISTING, *SETS], endpoint, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(SETS)
    for name, (commit, utterances) in found.items():
        assert commit == open_asr._REVISION
        assert len(utterances) == 3
        assert [identifier.partition("-")[0] for identifier, *_ in utterances] == ["000000", "000001", "000002"]
        assert all(text.endswith(".") and samples > 8000 for _, _, text, samples in utterances)
        speakers = {speaker for _, speaker, _, _ in utterances}
        assert (speakers == {None}) is not name.startswith("librispeech")


@pytest.mark.slow
def test_a_grid_over_the_leaderboard(repositories, tmp_path):
    data = "\n".join(f'[[data]]\ndataset = "open_asr"\nsplit = "{name}"' for name in SETS)
    experiment = tmp_path / "leaderboard.toml"
    experiment.write_text(EXPERIMENT.format(data=data))
    with serving(repositories) as endpoint:
        done = in_a_process(
            ["-m", "harness.grid", str(experiment), "--out", str(tmp_path)], endpoint, tmp_path / "cache"
        )
    assert done.returncode == 0, done.stderr + done.stdout
    rows = pandas.read_csv(tmp_path / "leaderboard" / "results.csv")
    assert len(rows) == 16
    assert set(rows["status"]) == {"done"}
    assert set(rows["corpus"]) == {configuration for configuration, _, _ in SETS.values()}
    published = rows.dropna(subset=["reference_wer"])
    assert dict(zip(published["split"], published["reference_wer"], strict=True)) == {"ami": 0.125, "voxpopuli": 0.0725}
    assert set(published["backend"]) == {"none"}

    assert report.main([str(tmp_path / "leaderboard")]) == 0
    full = rows.query("backend == 'none'").set_index("split")["wer"]
    over_sets = full.mean()
    halves = full[["librispeech-clean", "librispeech-other"]].mean()
    over_corpora = (full.drop(["librispeech-clean", "librispeech-other"]).sum() + halves) / 7
    assert abs(over_sets - over_corpora) > 1e-4
    page = Path(tmp_path / "leaderboard" / "report.html").read_text()
    assert "over the 8 sets, and over the 7 corpora" in page
    assert f'<td class="number">{over_sets:.2%}'.rstrip("%") in page
    assert f'<td class="number">{over_corpora:.2%}'.rstrip("%") in page


def test_an_unknown_set_is_one_sentence(tmp_path, capsys):
    experiment = tmp_path / "leaderboard.toml"
    experiment.write_text(EXPERIMENT.format(data='[[data]]\ndataset = "open_asr"\nsplit = "amy"'))
    assert grid.main([str(experiment), "--out", str(tmp_path)]) == 2
    assert "split 'amy' is not one of ami, earnings22" in capsys.readouterr().err


def test_published_values_of_a_model_that_is_not_there(tmp_path, capsys):
    experiment = tmp_path / "leaderboard.toml"
    text = EXPERIMENT.format(data='[[data]]\ndataset = "embedded"\nsplit = "clean"')
    experiment.write_text(text.replace('[[published]]\nmodel = "embedded"', '[[published]]\nmodel = "embeded"'))
    assert grid.main([str(experiment), "--out", str(tmp_path)]) == 2
    assert "[[published]] is for 'embeded', which is not the name of a [[model]]" in capsys.readouterr().err
