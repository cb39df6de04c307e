"""Words where nothing was said, against numbers found by hand."""

import math

import pytest

from harness.metrics import ErrorRate
from harness.stats import Sample, Transcribed, hallucinated, more_hallucinated


def heard(*recordings):
    """A sample from (id, reference, hypothesis, seconds)."""
    return Sample.of(Transcribed(i, None, r, h, "", ErrorRate(0, 0, 0, 0), s) for i, r, h, s in recordings)


QUIET = heard(("a", "", "", 30.0), ("b", "", "", 60.0), ("c", "", "thank you", 30.0))
LOUD = heard(("a", "", "thank you", 30.0), ("b", "", "so so so so", 60.0), ("c", "", "thank you", 30.0))


def test_words_a_minute_and_share_of_recordings():
    found = hallucinated(QUIET)
    assert (found.per_minute, found.share) == (1.0, pytest.approx(1 / 3))
    found = hallucinated(LOUD)
    assert (found.per_minute, found.share) == (4.0, 1.0)


def test_speech_does_not_count_and_alone_has_no_such_number():
    assert hallucinated(heard(("a", "", "x", 60.0), ("b", "yes", "yes no", 60.0))).per_minute == 1.0
    assert hallucinated(heard(("b", "yes", "yes no", 60.0))) is None
    assert more_hallucinated(heard(("b", "yes", "", 1.0)), heard(("b", "yes", "", 1.0))) is None


def test_the_difference_is_paired_by_recording():
    more = more_hallucinated(LOUD, QUIET)
    assert more.per_minute == 3.0
    assert more.low < 3 < more.high
    assert more.p == 0.5  # two of four ways to flip the signs of 2 and 4 give a sum as far from 0
    same = more_hallucinated(LOUD, LOUD)
    assert (same.per_minute, same.low, same.high) == (0.0, 0.0, 0.0)
    one = more_hallucinated(heard(("a", "", "x", 60.0)), heard(("a", "", "", 60.0)))
    assert one.per_minute == 1.0
    assert math.isnan(one.low)
    assert math.isnan(one.p)
    assert more_hallucinated(LOUD, heard(("a", "", "", 30.0))) is None


def test_only_what_was_heard_counts_and_short_recordings_as_much_as_they_last():
    row = {
        **dict.fromkeys(("substitutions", "deletions", "insertions", "reference_words"), 0),
        "id": "a",
        "speaker": None,
        "normalised_reference": "",
        "normalised_hypothesis": "so",
        "alignment": "",
        "seconds": 60.0,
    }
    assert hallucinated(Sample.from_rows([row])).per_minute == 1.0
    assert hallucinated(Sample.from_rows([{**row, "heard_seconds": 30.0}])).per_minute == 2.0
    loud, quiet = heard(("a", "", "so so", 0.3)), heard(("a", "", "", 0.3))
    assert more_hallucinated(loud, quiet).per_minute == pytest.approx(hallucinated(loud).per_minute) == 400
