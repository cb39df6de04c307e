"""Sentences on what is written where nobody speaks."""

from harness.report.findings import findings
from harness.report.numbers import MINUS
from harness.report.short import in_short
from harness.report.silence import unspoken
from harness.stats import Study


def row(name, change=None, *, backend="quanto", split="nonspeech", words=0, rate=6.0):
    difference, low, high = change or (None, None, None)
    return {
        "configuration": name,
        "configuration_id": name,
        "cell_id": name,
        "model": "tiny",
        "split": split,
        "status": "done",
        "reference_words": words,
        "backend": backend,
        "hallucinated_per_minute": rate,
        "hallucinated_share": 0.9,
        "hallucinated_difference": difference,
        "hallucinated_low": low,
        "hallucinated_high": high,
    }


def study(*rows):
    return Study(rows, lambda _: None)


FULL = row("full precision", backend="none")


def test_what_is_shown_to_be_more_and_fewer_is_named_and_the_rest_counted():
    changed = row("b", (1.0, 0.5, 1.5)), row("a", (3.0, 2.0, 4.0)), row("c", (-2.0, -3.0, -1.0))
    said = unspoken(study(FULL, *changed, row("d", (9.0, -1.0, 19.0))))
    assert said == [
        "tiny in full precision writes 6.00 words a minute on nonspeech, where nobody speaks, and something in 90% of "
        "the recordings.",
        "Quantized, in words a minute. More: a +3.00 [+2.00, +4.00]; b +1.00 [+0.50, +1.50]. Fewer: c "
        f"{MINUS}2.00 [{MINUS}3.00, {MINUS}1.00]. Not shown to differ: 1 of 4.",
    ]


def test_runs_of_silence_alone_have_sentences_and_others_none():
    silent = study(FULL, row("d", (0.0, 0.0, 0.0)))
    assert in_short(silent) == unspoken(silent)
    assert [finding.question for finding in findings(silent)] == ["What is written where nobody speaks?"]
    assert unspoken(silent)[1] == "Quantized, in words a minute. Not shown to differ: 1 of 1."
    assert unspoken(study(row("x", words=9, rate=None))) == []
    assert unspoken(study(row("x", words=9, rate=float("nan")))) == []
