"""Utterances joined to long recordings."""

import numpy as np
import pytest
import soundfile

from harness import datasets
from harness.datasets import SAMPLE_RATE, Data
from harness.datasets._joined import SILENCE
from harness.errors import ConfigError, DataError
from harness.experiment.tables import Calibration
from harness.resolution.identity import _check_different, _check_disjoint

SHORT = {"dataset": "embedded", "split": "clean", "limit": 30}


@pytest.fixture(scope="module")
def parts():
    return {utterance.id: utterance for utterance in datasets.load(Data(**SHORT)).utterances}


@pytest.fixture(scope="module")
def corpus():
    return datasets.load(Data(**SHORT, join_seconds=20.0))


def test_nothing_is_left_out_and_every_recording_is_long_enough(corpus, parts):
    assert sorted(id for utterance in corpus.utterances for id in utterance.parts) == sorted(parts)
    lengths = [utterance.seconds() for utterance in corpus.utterances]
    assert all(length >= 20 for length in lengths[:-1])
    longest = max(part.seconds() for part in parts.values())
    assert all(length < 20 + longest + SILENCE for length in lengths)
    assert len({utterance.id for utterance in corpus.utterances}) == len(corpus.utterances)


def test_samples_and_words_are_those_of_the_parts(corpus, parts):
    recording = corpus.utterances[0]
    own = [parts[id] for id in recording.parts]
    assert recording.text == " ".join(part.text for part in own)
    assert recording.speaker is None
    assert len({part.speaker for part in own}) > 1
    waveform, place = recording.waveform(), 0
    for part in own:
        samples = part.waveform()
        np.testing.assert_array_equal(waveform[place : place + len(samples)], samples)
        place += len(samples)
        pause = waveform[place : place + round(SILENCE * SAMPLE_RATE)]
        assert not pause.any()
        place += len(pause)
    assert place == len(waveform)


def test_the_order_is_the_seed_s(corpus):
    again = datasets.load(Data(**SHORT, join_seconds=20.0))
    other = datasets.load(Data(**SHORT, join_seconds=20.0, seed=1))
    assert again.utterances[0].parts == corpus.utterances[0].parts != other.utterances[0].parts
    assert len({c.id for c in (corpus, other, datasets.load(Data(**SHORT, join_seconds=30.0)))}) == 3


def test_a_list_is_a_test_set_a_length_and_conditions_come_after():
    data = Data(**SHORT, join_seconds=[20.0, 60.0], noise_db=10.0)
    assert [one.label for one in data.multiplied()] == [
        "clean joined to 20 s + white 10 dB",
        "clean joined to 60 s + white 10 dB",
    ]
    noisy = datasets.load(data.multiplied()[0]).utterances[0]
    assert np.abs(noisy.waveform()[: SAMPLE_RATE // 10]).max() > 0
    assert noisy.parts


def test_calibration_on_what_is_joined_in_a_test_set_is_refused(corpus):
    data = Data(**SHORT, join_seconds=20.0)
    with pytest.raises(ConfigError, match="it shares utterances with the test set clean joined to 20 s"):
        _check_disjoint(Data(**SHORT), datasets.load(Data(**SHORT)), {data: corpus})


def test_the_same_speech_in_two_lengths_is_two_test_sets(corpus):
    data = [Data(**SHORT, join_seconds=seconds) for seconds in (20.0, 60.0)]
    _check_different({one: datasets.load(one) for one in data})


def test_calibration_has_one_length():
    with pytest.raises(ValueError, match="one condition"):
        Calibration(data=Data(**SHORT, join_seconds=[20.0, 60.0]))


def test_of_which_utterances_recordings_are_identifies_a_corpus_that_is_made():
    """All are called alike where the first utterance and the number of them are the same."""
    made = {"dataset": "nonspeech", "limit": 15, "join_seconds": 7200.0}
    corpora = [datasets.load(Data(**made)), datasets.load(Data(**made, max_seconds=30))]
    assert [len(corpus.utterances) for corpus in corpora] == [1, 1]
    assert corpora[0].revision != corpora[1].revision


@pytest.mark.parametrize("keys", [{"join_seconds": 20.0}, {"alignments": "words.ctm"}])
def test_calibration_on_local_recordings_that_are_tested_otherwise_is_refused(keys, tmp_path, parts):
    rows, words = ["file_name,text"], []
    for utterance in list(parts.values())[:8]:
        soundfile.write(tmp_path / f"{utterance.id}.wav", utterance.waveform(), SAMPLE_RATE)
        rows.append(f"{utterance.id}.wav,{utterance.text}")
        words += [f"{utterance.id}.wav 1 {i / 10} 0.1 {word}" for i, word in enumerate(utterance.text.split())]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    (tmp_path / "words.ctm").write_text("\n".join(words))
    source = Data(dataset="folder", root=str(tmp_path))
    told = {key: str(tmp_path / value) if isinstance(value, str) else value for key, value in keys.items()}
    data = source.model_copy(update=told)
    with pytest.raises(ConfigError, match="it shares utterances with the test set"):
        _check_disjoint(source, datasets.load(source), {data: datasets.load(data)})


def test_what_is_joined_does_not_babble_behind_itself(tmp_path, parts):
    rows = ["file_name,text"]
    for utterance in list(parts.values())[:8]:
        soundfile.write(tmp_path / f"{utterance.id}.wav", utterance.waveform(), SAMPLE_RATE)
        rows.append(f"{utterance.id}.wav,{utterance.text}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    noisy = Data(dataset="folder", root=str(tmp_path), join_seconds=60.0, noise="babble", noise_db=5.0)
    with pytest.raises(DataError, match="babble needs 6 utterances of other speakers, and the split has 0"):
        datasets.load(noisy).utterances[0].waveform()


def test_babble_is_of_the_language_that_is_asked_for(monkeypatch):
    asked = []

    def load(self, data, *, cached_only=False):
        asked.append(data.language)
        return datasets.load(Data(**SHORT))

    monkeypatch.setattr(type(datasets.get("fleurs")), "load", load)
    data = Data(dataset="fleurs", language="de", noise="babble", noise_db=5.0)
    assert len(datasets.load(data).utterances[0].waveform())
    assert asked == ["de", "de"]
