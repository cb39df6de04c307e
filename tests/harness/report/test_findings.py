"""The answers in words: they say what the rows show, and no more."""

import pytest

from harness.report.findings import findings
from harness.report.numbers import MINUS
from tests.harness.runs import PLANNED, UTTERANCES, write_run


def base(speaker, number):
    return 4 + (speaker + number) % 3


def errors(configuration, split, speaker, number):
    """8 bits: HQQ as full precision, static worse; 4 bits cost on the noisy split; 3 bits with coarse scales most."""
    spec, noisy = configuration.spec, split == "other"
    cost = {4: 2 * int(noisy and number == 0), 3: 1, 2: 10}.get(spec.bits, 0)
    cost += 2 * (spec.bits == 3 and str(spec.granularity) == "per_channel") + 2 * (spec.scheme == "static")
    different = configuration.backend == "quanto" and speaker == 0 and number == 0
    return base(speaker, number) + cost + 2 * different + noisy


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    study = write_run(tmp_path_factory.mktemp("run"), errors)
    return {found.question: " ".join(found.answer) for found in findings(study)}


def answer(answers, start):
    return next(text for question, text in answers.items() if question.startswith(start))


def test_which_int8_is_as_good(answers):
    text = answer(answers, "Which 8-bit")
    good, _, rest = text.partition("Shown to be worse")
    assert "hqq weight_only int8 per_group:64" in good
    assert "torch_static static int8 per_channel" in rest


def test_the_smallest_within_the_margin_is_not_one_that_costs(answers):
    text = answer(answers, "What is the smallest")
    assert text.startswith("Shown with confidence on every split: ")
    assert "int8" in text.partition(".")[0]


def test_what_four_bits_cost_starts_with_the_difficult_split(answers):
    text = answer(answers, "What do 4 bits cost")
    assert text.index("On other") < text.index("On clean")
    assert f"hqq weight_only int4 per_group:64 +{2 * 100 / UTTERANCES / 20:.2f} [" in text
    assert "hqq weight_only int4 per_group:64 identical" in text


def test_granularity_matters_where_it_was_made_to(answers):
    text = answer(answers, "Does granularity matter")
    assert f"granularity per_group:64 instead of per_channel: {MINUS}10.00 [" in text
    assert "one pair, from hqq weight_only int3 per_channel" in text
    assert "No difference shown for granularity per_channel instead of per_tensor" in text


def test_the_cast_is_weighed_against_what_is_smaller_and_as_good(answers):
    text = answer(answers, "Is a plain 16-bit cast")
    assert "cast bf16 saves 50.0% at identical on clean and identical on other: as good as full precision." in text
    assert "By size the plain cast is not the better bargain" in text


def test_the_frontier_goes_from_small_to_large(answers):
    text = answer(answers, "Which configurations are on the Pareto")
    assert text.startswith("On clean, from small to large: quanto weight_only int2")


def test_factors_without_a_pair_are_named(answers):
    text = answer(answers, "What do the other factors do")
    assert "about these alone the run says nothing" in text
    assert "bits 2 instead of 4" in text


def test_the_cast_wins_where_nothing_smaller_is_as_good(tmp_path):
    own = [c for c in PLANNED if c.backend in ("none", "cast") or c.spec.bits in (2, 3)]
    answers = {f.question: " ".join(f.answer) for f in findings(write_run(tmp_path, errors, own))}
    assert "Nothing smaller is shown to be as good" in answer(answers, "Is a plain 16-bit cast")
    assert answer(answers, "What is the smallest").startswith("Shown with confidence on every split: cast bf16")
    assert not any(question.startswith("Which 8-bit") for question in answers)


def test_a_run_of_full_precision_alone_answers_nothing(tmp_path):
    assert findings(write_run(tmp_path, errors, PLANNED[:1])) == []


def test_few_speakers_are_mentioned(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.harness.runs.SPEAKERS", 3)
    found = findings(write_run(tmp_path, errors, PLANNED[:6]))
    assert "no permutation test can reach 0.05 after adjustment" in " ".join(found[-1].answer)
