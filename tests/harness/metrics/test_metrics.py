import math
import re

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import ErrorRate, Normaliser, count_errors, is_loop

words = st.lists(st.sampled_from(["a", "b", "c", "dd", "ee"]), max_size=12).map(" ".join)


@given(st.lists(st.tuples(words.filter(bool), words), min_size=1, max_size=5))
def test_corpus_rate_is_jiwers(pairs):
    total = sum((count_errors(r, h).words for r, h in pairs), ErrorRate())
    references, hypotheses = zip(*pairs, strict=True)
    assert total.rate == pytest.approx(jiwer.wer(list(references), list(hypotheses)))


@given(words, words)
def test_counts_balance(reference, hypothesis):
    for rate, length in (
        (count_errors(reference, hypothesis).words, len(hypothesis.split())),
        (count_errors(reference, hypothesis).characters, len(hypothesis)),
    ):
        assert rate.reference - rate.deletions + rate.insertions == length


def test_an_empty_reference_has_no_rate_but_its_insertions_count():
    empty = count_errors("", "two words").words
    assert math.isnan(empty.rate)
    assert (empty + count_errors("one two", "one two").words).rate == 1.0


def test_the_normaliser_is_whispers_with_its_spelling_table():
    normalise = Normaliser()
    assert normalise("Mr. Brown's TWENTY-first, uh, [noise] colour") == "mister brown is 21st color"
    assert re.fullmatch(
        r"whisper-english transformers=\S+ spelling=openai-whisper-20250625:[0-9a-f]{8}", normalise.version
    )


def test_without_a_normaliser_words_stay_as_they_are():
    assert Normaliser("none")(" Mr. Brown's  colour ") == "Mr. Brown's colour"
    assert Normaliser("none").version == "none"
    with pytest.raises(ValueError, match="whisper-english"):
        Normaliser("basic")


@pytest.mark.parametrize(
    ("hypothesis", "runs_away"),
    [
        ("he sat down by the river", False),
        ("", False),
        ("he sat down by the river and then he went up the hill", True),
        ("he sat " * 40, True),
    ],
)
def test_loops(hypothesis, runs_away):
    assert is_loop("he sat down by the river", hypothesis) is runs_away
