import math

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.embedded import MODEL_DIRECTORY
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


def test_the_normaliser_is_whispers():
    normalise = Normaliser(MODEL_DIRECTORY)
    assert normalise("Mr. Brown's TWENTY-first, uh, [noise] day") == "mister brown is 21st day"
    assert normalise.version.startswith("whisper-english transformers=")


def test_the_checkpoints_spelling_table_is_used(tmp_path):
    (tmp_path / "normalizer.json").write_text('{"colour": "color"}')
    with_table, without = Normaliser(tmp_path), Normaliser(MODEL_DIRECTORY)
    assert with_table("colour") == "color"
    assert without("colour") == "colour"
    assert with_table.version != without.version


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
