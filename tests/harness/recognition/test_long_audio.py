"""Audio longer than the model's window: cut, or decoded window after window, as the experiment says."""

import numpy as np
import pandas
import pytest
from transformers import GenerationConfig

from harness.datasets import load
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Data, Decoding
from harness.grid import main
from harness.metrics import Normaliser, count_errors
from harness.recognition.chunks import pieces
from harness.recognition.loading import load_recognizer
from harness.resolution import identity
from tests.harness.checkpoints import save_moonshine, save_whisper
from tests.harness.runs import as_asked

EXPERIMENT = """
name = "long"
model = "{model}"
[[data]]
dataset = "librispeech"
split = "test-clean"
root = "{root}"
[decoding]
batch_size = 2
max_new_tokens = 6
long_audio = "{policy}"
[run]
device = "cpu"
[[grid]]
backend = "none"
scheme = "none"
granularity = "per_tensor"
bits = 32
format = "fp32"
"""


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A small Whisper with the window of the published ones, whose highest tokens are timestamps."""
    directory = save_whisper(
        tmp_path_factory.mktemp("long"), width=64, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=4, decoder_attention_heads=4,
    )  # fmt: skip
    generation = GenerationConfig.from_pretrained(directory)
    generation.no_timestamps_token_id = 50363
    generation.max_initial_timestamp_index = 50
    generation.save_pretrained(directory)
    return directory


def noise(seconds):
    return np.random.default_rng(0).normal(0, 0.1, int(seconds * 16000)).astype(np.float32)


def passes(recognizer, waveforms, policy):
    """How often the encoder is called, and with how many rows: the windows that are told."""
    recognizer.windows = 0
    calls = []
    hook = recognizer.model.get_encoder().register_forward_hook(
        lambda _, args, output: calls.append(len(output.last_hidden_state))
    )
    heard = recognizer.transcribe(waveforms, Decoding(max_new_tokens=5, long_audio=policy))
    hook.remove()
    assert len(heard) == len(waveforms)
    assert recognizer.windows == sum(calls)
    return calls


def test_truncating_is_one_pass_and_sequential_several(whisper):
    recognizer = load_recognizer(whisper, "float32", "cpu")
    waveforms = [noise(34.96), noise(3), noise(62)]
    assert passes(recognizer, waveforms, "truncate") == [3]
    calls = passes(recognizer, waveforms, "sequential")
    assert calls[0] == 1
    assert len(calls) >= 4
    assert passes(recognizer, [noise(3), noise(29)], "sequential") == [2]


def test_chunks_overlap_and_each_recording_is_heard_by_itself(whisper):
    recognizer = load_recognizer(whisper, "float32", "cpu")
    calls = passes(recognizer, [noise(34.96), noise(3), noise(62)], "chunked")
    assert calls[:2] == [1, 2]
    assert 3 in calls
    assert [len(piece) / 16000 for piece in pieces(noise(62), 480_000)] == [30, 30, 22]
    assert [len(piece) / 16000 for piece in pieces(noise(30), 480_000)] == [30]


def test_chunks_of_real_speech_are_one_text(real_whisper, librispeech_root):
    """What is heard of utterances joined to a minute and a half is what is heard one by one, but for the seams."""
    data = Data(dataset="librispeech", split="test-clean", root=str(librispeech_root), limit=8)
    alone = load(data).utterances
    (together,) = load(data.model_copy(update={"join_seconds": 600.0})).utterances
    recognizer = load_recognizer(real_whisper, "float32", "cpu")
    normalise = Normaliser()
    heard = recognizer.transcribe([together.waveform()], Decoding(long_audio="chunked"))
    errors = count_errors(normalise(together.text), normalise(heard[0].text)).words
    by_one = recognizer.transcribe([utterance.waveform() for utterance in alone], Decoding())
    separate = [
        count_errors(normalise(utterance.text), normalise(transcript.text)).words
        for utterance, transcript in zip(alone, by_one, strict=True)
    ]
    lost = errors.substitutions + errors.deletions + errors.insertions
    lost -= sum(one.substitutions + one.deletions + one.insertions for one in separate)
    assert lost <= 0.03 * errors.reference


def test_moonshine_hears_any_length_at_once(tmp_path):
    recognizer = load_recognizer(save_moonshine(tmp_path), "float32", "cpu")
    assert passes(recognizer, [noise(34.96)], "sequential") == [1]


def write_corpus(root, seconds):
    import soundfile

    chapter = root / "test-clean" / "1" / "1"
    chapter.mkdir(parents=True)
    for number, length in enumerate(seconds):
        soundfile.write(chapter / f"1-1-{number:04}.flac", noise(length), 16000)
    lines = [f"1-1-{number:04} SOME WORDS WERE SAID\n" for number in range(len(seconds))]
    (chapter / "1-1.trans.txt").write_text("".join(lines))
    return root


@pytest.mark.parametrize("policy", ["truncate", "sequential", "chunked"])
def test_a_run_says_what_it_did(policy, whisper, tmp_path):
    root = write_corpus(tmp_path / "speech", [3, 31])
    path = tmp_path / "long.toml"
    path.write_text(EXPERIMENT.format(model=whisper, root=root, policy=policy))
    assert main([str(path), "--out", str(tmp_path)]) == 0
    (row,) = pandas.read_parquet(tmp_path / "long" / "results.parquet").to_dict("records")
    assert row["status"] == "done"
    utterances = pandas.read_parquet(tmp_path / "long" / "cells" / row["cell_id"] / "utterances.parquet")
    assert list(utterances["seconds"]) == [31, 3]
    assert list(utterances["heard_seconds"]) == [30 if policy == "truncate" else 31, 3]
    assert row["audio_seconds"] == sum(utterances["heard_seconds"])
    assert pandas.isna(row["at_limit"]) == (policy == "sequential")
    if policy == "chunked":
        assert row["at_limit"] == 2, "random weights write on until the cap"
    assert (utterances["reference_tokens"] > 0).tolist() == [policy == "truncate", True]
    operations = row["bops_per_audio_second"] * row["audio_seconds"] / row["encoder_bops"]
    assert int(operations) == (2 if policy == "truncate" else 3), "windows, prompts and steps cost less than one more"
    assert row["nll"] > 0


def test_real_utterances_of_more_than_thirty_seconds(whisper, librispeech_root, tmp_path):
    ids = {}
    for policy in ("truncate", "sequential"):
        path = tmp_path / f"{policy}.toml"
        path.write_text(EXPERIMENT.format(model=whisper, root=librispeech_root, policy=policy))
        experiment = load_experiment(path)
        planned = configurations(experiment)
        resolved = identity.resolve(experiment, planned, as_asked)
        (cell,) = identity.cells_of(planned[0], experiment, resolved)
        ids[policy] = cell.cell_id
        corpus = resolved.corpora[experiment.data[0]]
        recognizer = load_recognizer(whisper, "float32", "cpu")
        waveforms = [u.waveform() for u in corpus.utterances]
        longest = max(waveforms, key=len)
        assert len(longest) / 16000 > 30
        calls = passes(recognizer, [longest], policy)
        assert len(calls) == 1 if policy == "truncate" else len(calls) > 1
    assert ids["truncate"] != ids["sequential"]


def test_without_timestamps_the_configuration_is_not_possible(tmp_path, capsys):
    root = write_corpus(tmp_path / "speech", [3, 9])
    path = tmp_path / "long.toml"
    path.write_text(EXPERIMENT.format(model=MODEL_DIRECTORY, root=root, policy="sequential"))
    assert main([str(path), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "needs a checkpoint with timestamp tokens" in said
    assert said.count("\n") == 1
