"""What all corpora have in common: samples balanced over speakers, and speakers as part of a revision."""

import json
from collections import Counter

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from harness import datasets
from harness.datasets import Data, Utterance, corpus_of
from harness.datasets._base import balanced


def utterances(*counts):
    """So many utterances of each speaker, in the order of their ids."""
    names = [(f"{speaker}-{i:03}", f"s{speaker}") for speaker, count in enumerate(counts) for i in range(count)]
    return [Utterance(name, speaker, "words", bytes) for name, speaker in sorted(names)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(0, 90), st.integers(0, 99))
def test_a_sample_has_as_many_of_every_speaker_as_there_are(counts, size, seed):
    every = utterances(*counts)
    found = balanced(every, size, seed)
    assert len(found) == min(size, len(every))
    assert [u for u in every if u in found] == found
    of_each = Counter(u.speaker for u in found)
    most = max(of_each.values(), default=0)
    for speaker, count in enumerate(counts):
        assert of_each[f"s{speaker}"] >= min(count, most - 1)


def test_a_larger_sample_holds_the_smaller_and_a_seed_draws_another():
    every = utterances(*[12] * 40)
    samples = [{u.id for u in balanced(every, size, 0)} for size in (40, 240, 300)]
    assert samples[0] < samples[1] < samples[2]
    assert samples[1] != {u.id for u in balanced(every, 240, 1)}
    assert set(Counter(name.partition("-")[0] for name in samples[1]).values()) == {6}


def test_a_limit_draws_and_unknown_speakers_are_speakers_of_their_own():
    every = [Utterance(f"{i:03}", None, "words", bytes) for i in range(100)]
    found = corpus_of("test", every, Data(dataset="test", limit=10)).utterances
    assert len(found) == 10
    assert found != tuple(every[:10])


@pytest.mark.parametrize(("written", "expected"), [(0, "0"), ("ann", "ann"), ("", None), (None, None)])
def test_who_speaks_is_part_of_the_revision(tmp_path, written, expected):
    soundfile.write(tmp_path / "a.wav", [0.1] * 1600, 16000)
    revisions = []
    for row in ({"file_name": "a.wav", "text": "one"}, {"file_name": "a.wav", "text": "one", "speaker": written}):
        (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
        corpus = datasets.get("folder").load(Data(dataset="folder", root=str(tmp_path)))
        revisions.append(corpus.revision)
    assert corpus.utterances[0].speaker == expected
    assert (revisions[0] == revisions[1]) is (expected is None)
