"""The sequential test: it holds at every moment, and stops what is far worse."""

import numpy as np
import pytest

from harness.stats.sequential import ALPHA, FEWEST_SPEAKERS, Drawn


def split(rng, speakers, rate=0.08):
    words = rng.integers(100, 300, speakers)
    return rng.binomial(words, np.clip(rng.beta(2, 2 / rate - 2, speakers), 0, 1)), words


@pytest.mark.parametrize("speakers", [FEWEST_SPEAKERS, 40])
def test_what_is_just_within_the_limit_is_seldom_called_worse(speakers):
    """The hardest case: the whole difference is the limit itself, and a few speakers bear all of it."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(400):
        errors, words = split(rng, speakers)
        limit = 0.1
        extra = np.zeros(speakers)
        bearers = rng.permutation(speakers)[: max(2, speakers // 5)]
        extra[bearers] = np.minimum(limit * words.sum() / len(bearers), words[bearers] - errors[bearers])
        order = rng.permutation(speakers)
        drawn = Drawn(errors[order], words[order], extra.sum() / words.sum())
        called += drawn.is_worse((errors + extra)[order])
    assert called / 400 <= ALPHA


def test_what_fails_is_stopped_after_a_fifth():
    rng = np.random.default_rng(1)
    errors, words = split(rng, 40)
    drawn = Drawn(errors, words, 0.1)
    capital = drawn.capital(words)
    assert (capital >= 1 / ALPHA).argmax() < 8
    assert drawn.is_worse(words[:8])
    assert not drawn.is_worse(words[:0])


def test_runaways_count_no_more_than_all_words():
    errors, words = np.full(20, 5), np.full(20, 100)
    drawn = Drawn(errors, words, 0.1)
    few = np.array([10_000, 5, 5])
    assert np.array_equal(drawn.capital(few), drawn.capital(np.array([100, 5, 5])))
    assert not drawn.is_worse(few)


def test_what_cannot_be_made_good_is_worse():
    errors, words = np.zeros(8), np.array([900, *[10] * 7])
    assert np.isinf(Drawn(errors, words, 0.1).capital(np.array([900.0, 0.0]))[-1])


def test_few_speakers_call_nothing_worse():
    assert not Drawn(np.zeros(7), np.full(7, 100), 0.1).is_worse(np.full(7, 100))
