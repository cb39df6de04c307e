"""How long a plan takes, said before anything is downloaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from harness import datasets
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.report.estimate import UnmeasuredError, measured, time_sentence
from harness.report.shapes import PUBLISHED
from harness.resolution.architectures import ARCHITECTURES

EXPERIMENTS = sorted(set(Path("experiments").glob("*.toml")) - {Path("experiments/claims.toml")})
HEAD = """
name = "small"
run = { device = "cpu", workers = 2 }
[[grid]]
backend = "hqq"
bits = [8, 4, 2]
granularity = "per_group:128"
"""
WHISPER = '[[model]]\npath = "openai/whisper-tiny.en"\n'
MOONSHINE = '[[model]]\npath = "UsefulSensors/moonshine-tiny"\n'
CLEAN = '[[data]]\ndataset = "librispeech"\nsplit = "test-clean"\n'
OTHER = '[[data]]\ndataset = "librispeech"\nsplit = "test-other"\n'
AMI = '[[data]]\ndataset = "open_asr"\nsplit = "ami"\n'


@pytest.fixture
def said(tmp_path):
    """The sentence for an experiment whose encoders take half a second each, and what was to be measured."""

    def say(*tables, overrides=(), seconds=0.5):
        file = tmp_path / "small.toml"
        file.write_text(HEAD + "".join(tables))
        experiment = load_experiment(file, overrides)
        asked = []

        def measure(trials, threads, processes):
            asked.append((trials, threads, processes))
            return [seconds * (i + 1) for i in range(len(trials))]

        return time_sentence(configurations(experiment), experiment, measure), asked

    return say


def test_a_plan_is_encoders_times_recordings_divided_by_workers(said):
    sentence, ((trials, threads, processes),) = said(WHISPER, CLEAN, OTHER)
    # four configurations, 5 559 recordings, half a second each and .4 to 1 of it, by two workers: 7 783 to 11 118 s
    assert sentence == (
        "about 2 h 10 min to 3 h 05 min on this machine with 2 workers, if nothing else runs (4 configurations, 5,559 "
        "recordings each; the encoder alone takes 0.5 s a recording, measured now, and all after it takes 40% to 100% "
        "of that by experience), without loading and quantizing, some seconds for each configuration, and calibration"
    )
    assert (len(trials), threads, processes) == (1, 1, 2)
    assert trials[0][0].layers == 4


def test_a_limit_counts_and_no_run_is_shorter_than_a_configuration_after_its_baseline(said):
    sentence, _ = said(WHISPER, CLEAN, "limit = 100\n", overrides=["run.workers=8"])
    assert "about 2 min to 3 min on this machine with 4 workers" in sentence
    assert "100 recordings each" in sentence


def test_each_model_has_its_pace(said):
    sentence, ((trials, _, _),) = said(WHISPER, MOONSHINE, CLEAN)
    assert "0.5 s (openai/whisper-tiny.en), 1 s (UsefulSensors/moonshine-tiny) a recording" in sentence
    assert [shape.length for shape, _ in trials] == [3000, int(5.4 * 3600 / 2620 * 16_000)]


def test_long_recordings_are_several_passes_where_all_is_heard(said, tmp_path):
    soundfile.write(tmp_path / "a.wav", [0.0] * 16_000 * 90, 16_000)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,words\n")
    folder = f'[[data]]\ndataset = "folder"\nroot = "{tmp_path}"\n'
    cut, _ = said(WHISPER, folder, overrides=["run.workers=1"], seconds=10.0)
    whole, _ = said(WHISPER, folder, overrides=["run.workers=1", "decoding.long_audio='sequential'"], seconds=10.0)
    assert "about 56 s to 80 s on this machine with 1 worker" in cut
    assert "about 3 min to 4 min on this machine" in whole
    assert "1 recording each" in whole


def test_local_files_are_counted(said, librispeech_root):
    there = len(list((librispeech_root / "test-clean").rglob("*.flac")))
    sentence, _ = said(WHISPER, CLEAN, f'root = "{librispeech_root}"\n')
    assert f"{there} recordings each" in sentence


def test_what_is_not_known_is_said_beside_what_is(said):
    sentence, _ = said(WHISPER, '[[model]]\npath = "someone/whisper-tiny.en"\n', CLEAN, AMI)
    assert "(4 configurations, 2,620 recordings each" in sentence
    assert sentence.endswith(
        "; not counted: someone/whisper-tiny.en, whose shape is known once it is downloaded; "
        "ami: the number of recordings is known once they are read"
    )


def test_without_a_number_of_recordings_there_is_a_pace(said):
    sentence, _ = said(WHISPER, AMI)
    assert "how long that takes is not known: ami" in sentence
    assert "the encoder alone takes 0.5 s a recording" in sentence


@pytest.mark.parametrize(
    ("overrides", "words"),
    [(["run.engine='ray'"], "it depends on the cluster"), (["run.device='cuda'"], "4 configurations on the GPU")],
)
def test_a_cluster_and_a_gpu_are_not_guessed(said, overrides, words):
    sentence, asked = said(WHISPER, CLEAN, overrides=overrides)
    assert sentence.startswith("4 configurations can run; how long that takes is not known")
    assert words in sentence
    assert asked == []


def test_a_directory_that_says_too_little_is_no_shape(said, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whisper", "d_model": 384}')
    sentence, _ = said(f'[[model]]\npath = "{tmp_path}"\n', CLEAN)
    assert "whose config.json does not tell its shape" in sentence


def test_the_hub_models_of_all_experiments_have_a_shape():
    paths = {model.path for file in EXPERIMENTS for model in load_experiment(file).model}
    hub = {path for path in paths if "/" in path}
    assert hub == set(PUBLISHED)
    for config in PUBLISHED.values():
        assert ARCHITECTURES[config["model_type"]].shape(config, 5.0).layers > 0


@pytest.mark.parametrize("split", ["clean", "other", "calibration"])
def test_the_embedded_corpus_is_as_large_as_it_says(split):
    data = datasets.Data(dataset="embedded", split=split)
    extent, utterances = datasets.get("embedded").extent(data), datasets.get("embedded").load(data).utterances
    assert extent.utterances == len(utterances)
    assert extent.hours == pytest.approx(sum(u.seconds() for u in utterances) / 3600, abs=0.006)


def test_an_encoder_is_really_measured():
    shape = ARCHITECTURES["moonshine"].shape(PUBLISHED["UsefulSensors/moonshine-tiny"], 1.0)
    short, long = measured([(shape, "float32"), (_of_seconds(8.0), "float32")], 1, 2)
    assert 0 < short < long


def _of_seconds(seconds):
    return ARCHITECTURES["moonshine"].shape(PUBLISHED["UsefulSensors/moonshine-tiny"], seconds)


def test_without_torch_the_time_is_not_known(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnmeasuredError, match="torch cannot be loaded here"):
        measured([(_of_seconds(1.0), "float32")], 1, 1)
    done = subprocess.run(
        [sys.executable, "-m", "harness.grid", "experiments/embedded.toml", "--dry-run", "--set", "run.device='cpu'"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{tmp_path}:."},
    )
    assert done.returncode == 0, done.stderr
    assert "how long that takes is not known: torch cannot be loaded here" in done.stdout
