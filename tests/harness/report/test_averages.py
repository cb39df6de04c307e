"""Means over languages, and what errors are called that are counted in them."""

import pytest

from harness.report.averages import averages
from harness.report.tables import results_table
from harness.report.units import unit_of

SETS = (("german", "de", 0.1), ("german-2", "de", 0.3), ("japanese", "ja", 0.4))


def rows(corpus="fleurs"):
    usual = {
        "status": "done",
        "configuration_id": "c1",
        "configuration": "full precision float32",
        "model": "whisper",
        "revision": None,
        "dtype": "float32",
        "device": "cpu",
        "corpus": corpus,
        "difference": None,
        "non_inferior": None,
        "nll": None,
        "size_bytes": 1,
        "size_reduction": 0.0,
        "size_reduction_published": None,
        "effective_bits": 32.0,
    }
    units = {"ja": "character"}
    return [
        {**usual, "split": split, "language": language, "wer": wer, "error_unit": units.get(language, "word")}
        for split, language, wer in SETS
    ]


def test_the_mean_over_languages_counts_each_once():
    (found,) = averages(rows()).values()
    assert found.by_language == {"de": pytest.approx(0.2), "ja": 0.4}
    assert found.over_languages == pytest.approx(0.3)
    assert found.over_sets == pytest.approx(0.8 / 3)
    assert averages(rows()[:2]) == {}


def test_the_table_of_a_corpus_of_several_languages():
    table = results_table(rows())
    headings = [str(column.header) for column in table.columns]
    assert [h for h in headings if "german" in h or "japanese" in h] == ["WER german", "WER german-2", "CER japanese"]
    means = {
        h: next(iter(c.cells)) for h, c in zip(headings, table.columns, strict=True) if h.startswith(("mean", "of "))
    }
    assert means == {"mean of 3 sets": "26.67%", "of 2 languages": "30.00%", "of published": ""}


def test_units_have_names():
    assert unit_of(rows()[:2]).full_rate == "word error rate"
    assert unit_of(rows()[2:]).full_rate == "character error rate"
    assert unit_of(rows()).plural == "words or characters"
