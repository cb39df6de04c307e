"""Batches are decided before a run: utterances of like length together."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets import Data, Utterance, get
from harness.errors import CheckpointNotFoundError, ConfigError, OutputError
from harness.experiment.tables import Decoding
from harness.records.batch_size import settled
from harness.resolution import batching

GIB = 2**30
lengths = st.dictionaries(st.text(min_size=1), st.sampled_from([0.0, 1.0, 2.5, 30.0]))


@given(lengths, st.integers(1, 9), st.randoms())
def test_batches_depend_on_utterances_and_size_alone(lengths, size, rng):
    plan = batching.batch_plan(lengths, size)
    shuffled = dict(rng.sample(list(lengths.items()), len(lengths)))
    assert batching.batch_plan(shuffled, size) == plan
    names = [name for batch in plan for name in batch]
    assert sorted(names) == sorted(lengths)
    assert [lengths[name] for name in names] == sorted(lengths.values(), reverse=True)
    assert all(len(batch) == size for batch in plan[:-1])


def test_lengths_are_the_seconds_of_the_recordings():
    speech = get("embedded").load(Data(dataset="embedded", split="clean", limit=5)).utterances
    seconds = batching.lengths_of(speech)
    assert seconds == pytest.approx({u.id: len(u.waveform()) / 16000 for u in speech})
    assert len(set(seconds.values())) > 3


def test_what_cannot_be_heard_goes_last(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    broken = Utterance("a", "1", "WORDS", tmp_path / "broken.wav")
    speech = get("embedded").load(Data(dataset="embedded", split="clean", limit=3)).utterances
    lengths = batching.lengths_of([broken, *speech])
    assert lengths["a"] == 0.0
    assert batching.batch_plan(lengths, 3)[-1] == ("a",)


def write(directory, **config):
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(b"\0" * 1000)
    return directory


WHISPER_SMALL = {
    "model_type": "whisper", "d_model": 768, "encoder_ffn_dim": 3072, "decoder_layers": 12,
    "max_source_positions": 1500, "vocab_size": 51865,
}  # fmt: skip


def test_the_batch_grows_with_memory_and_shrinks_with_the_model(tmp_path):
    small = write(tmp_path / "small", **WHISPER_SMALL)
    tiny = write(tmp_path / "tiny", **{**WHISPER_SMALL, "d_model": 384, "encoder_ffn_dim": 1536, "decoder_layers": 4})
    sizes = [batching.fitting_batch_size(small, Decoding(), memory * GIB) for memory in (4, 16, 80, 10_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 4
    assert sizes[-1] == 256
    assert all(size & (size - 1) == 0 for size in sizes)
    assert batching.fitting_batch_size(tiny, Decoding(), 16 * GIB) > sizes[1]


def test_no_memory_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no utterance fits"):
        batching.fitting_batch_size(write(tmp_path / "small", **WHISPER_SMALL), Decoding(), GIB // 10)


def test_a_size_is_chosen_once(tmp_path):
    assert settled(tmp_path, 7, lambda: 1 / 0) == 7
    assert settled(tmp_path, "auto", lambda: 32) == 32
    assert settled(tmp_path, "auto", lambda: 64) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["batch_size.json"]


def test_broken_files_are_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointNotFoundError, match=r"config\.json: cannot be read as JSON"):
        batching.fitting_batch_size(tmp_path, Decoding(), GIB)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(CheckpointNotFoundError, match=r"config\.json: there is no 'd_model'"):
        batching.fitting_batch_size(tmp_path, Decoding(), GIB)
    (tmp_path / "batch_size.json").write_text("{")
    with pytest.raises(OutputError, match=r"batch_size\.json: cannot be read"):
        settled(tmp_path, "auto", lambda: 32)
