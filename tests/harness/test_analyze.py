"""The command, and its place on the page."""

import json
import re

import numpy as np
import pytest

from harness.analyze import main
from harness.grid import main as grid
from harness.report.__main__ import main as report
from harness.report.departures import departures
from harness.report.strata import strata
from harness.stats import difference

EXPERIMENT = """
name = "why"
model = "embedded"
[[data]]
dataset = "embedded"
split = "clean"
limit = 9
[[data]]
dataset = "embedded"
split = "other"
limit = 9
[decoding]
batch_size = 9
max_new_tokens = 30
[run]
device = "cpu"
[[grid]]
backend = "ptq"
bits = [3, 2]
method = "rtn"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("why")
    experiment = root / "why.toml"
    experiment.write_text(EXPERIMENT)
    assert grid([str(experiment), "--out", str(root)]) == 0
    assert main([str(experiment), "--out", str(root), "--only", "bits=2", "--split", "other", "--utterances", "4"]) == 0
    return root / "why"


@pytest.mark.slow
def test_an_analysis_is_stored_under_its_configuration(run):
    (path,) = (run / "analysis").iterdir()
    document = json.loads(path.read_text())
    assert path.stem == document["configuration_id"]
    assert (document["split"], document["utterances"]) == ("other", 4)
    assert len(document["layers"]) == 44
    assert [part["name"] for part in document["parts"]] == ["encoder", "decoder", "all"]


@pytest.mark.slow
def test_the_page_leads_from_the_cell_to_its_layers(run):
    assert report([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Why a configuration loses" in page
    (path,) = (run / "analysis").iterdir()
    worst = max(json.loads(path.read_text())["layers"], key=lambda layer: layer["divergence"])
    assert page.index("do most damage") < page.index(f'<th scope="row">{worst["name"]}</th>')
    assert "4 utterances of other" in page
    assert page.count("estimated SNR") >= 6


@pytest.mark.slow
def test_a_run_without_analysis_has_no_such_section(run, tmp_path):
    experiment = tmp_path / "why.toml"
    experiment.write_text(EXPERIMENT)
    assert grid([str(experiment), "--out", str(tmp_path), "--only", "bits=3"]) == 0
    assert report([str(tmp_path / "why")]) == 0
    assert "Why a configuration loses" not in (tmp_path / "why" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--split", "nowhere"], "the experiment has clean, other"),
        (["--only", "backend=none"], "quantizes anything"),
        (["--utterances", "0"], "at least 1"),
        (["--only", "bits=5"], "bits is never 5"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path, capsys):
    experiment = tmp_path / "why.toml"
    experiment.write_text(EXPERIMENT)
    assert main([str(experiment), "--out", str(tmp_path), *arguments]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert len(printed.strip().splitlines()) == 1


def tokens(*rows):
    return [{"id": str(i), "tokens": list(row)} for i, row in enumerate(rows)]


def test_departures():
    found = departures(tokens([1, 2, 3, 4], [1, 9, 9], [5, 6]), tokens([1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7]))
    assert found.identical == pytest.approx(1 / 3)
    assert found.kept == pytest.approx((4 + 1 + 2) / 11)
    assert found.place == pytest.approx((1 / 4 + 2 / 3) / 2)
    assert departures(tokens([1]), tokens([1])).place is None
    assert departures(tokens([1]), tokens([])).kept == 0


def utterance(number, wrong, **changes):
    counts = {"substitutions": wrong, "deletions": 0, "insertions": 0, "reference_words": 10}
    plain = {"speaker": f"s{number % 2}", "seconds": float(number), "estimated_snr_db": 30.0 - number}
    return {"id": str(number), **counts, **plain, "loop": False, "empty": False, **changes}


def test_strata():
    cell = [utterance(i, wrong=i, loop=i == 5, empty=i == 4) for i in range(6)]
    baseline = [utterance(i, wrong=1) for i in reversed(range(6))]
    found = {(s.by, s.name): s for s in strata(cell, baseline)}
    lengths = [s for s in strata(cell, baseline) if s.by == "length"]
    assert [s.name for s in lengths] == ["0.0 to 1.0 s", "2.0 to 3.0 s", "4.0 to 5.0 s"]
    assert [s.wer for s in lengths] == pytest.approx([0.05, 0.25, 0.45])
    assert all(s.baseline_wer == pytest.approx(0.1) for s in lengths)
    assert [s.wer for s in strata(cell, baseline) if s.by == "estimated SNR"] == pytest.approx([0.45, 0.25, 0.05])
    assert [(s.name, round(s.wer, 2)) for s in strata(cell, baseline) if s.by == "speaker"] == [
        ("s1", 0.3),
        ("s0", 0.2),
    ]
    assert found["transcript", "hallucination loop"].wer == 0.5
    assert found["transcript", "empty"].utterances == 1
    assert found["transcript", "neither"].utterances == 4


def test_a_difference_in_a_stratum_has_its_interval_over_speakers():
    rng = np.random.default_rng(0)
    cell = [utterance(i, wrong=int(rng.integers(0, 5)), speaker=f"s{i % 9}") for i in range(1, 91)]
    baseline = [utterance(i, wrong=1, speaker=f"s{i % 9}") for i in range(1, 91)]
    longest = next(s for s in strata(cell, baseline) if s.name == "61.0 to 90.0 s")
    blocks = [
        np.array([[sum(r["substitutions"] for r in own), 10 * len(own)] for own in by_speaker(rows[60:])])
        for rows in (cell, baseline)
    ]
    expected = difference(*blocks)
    assert (longest.low, longest.high) == (expected.low, expected.high)
    assert longest.low < longest.wer - longest.baseline_wer < longest.high


def by_speaker(rows):
    return [[row for row in rows if row["speaker"] == name] for name in dict.fromkeys(row["speaker"] for row in rows)]


def test_numbers_are_apart_from_other_words():
    heard = {"normalised_reference": "she paid 20 dollars", "alignment": "CCISC"}
    cell = [utterance(i, wrong=2, **heard) for i in range(1, 7)]
    baseline = [utterance(i, wrong=1, **{**heard, "alignment": "CSCC"}) for i in range(1, 7)]
    found = {s.name: s for s in strata(cell, baseline) if s.by == "word"}
    assert (found["numbers"].wer, found["numbers"].baseline_wer, found["numbers"].utterances) == (1, 0, 6)
    assert (found["other words"].wer, found["other words"].baseline_wer) == (0, pytest.approx(1 / 3))


def test_names_and_rare_words():
    texts = [
        "Yesterday Mary went to Rome.",
        "Rome is large. Mary said: I may go",
        "Then may we go to Mary",
        "MARY MAY GO",
    ]
    rows = [
        utterance(i, wrong=0, reference=text, normalised_reference=re.sub(r"[.:]", "", text.lower()))
        for i, text in enumerate(texts, 1)
    ]
    said = [{**row, "alignment": "C" * len(row["normalised_reference"].split())} for row in rows]
    wrong = [{**row, "alignment": "SDCCS"} if row["id"] == "1" else row for row in said]
    found = {s.name: s for s in strata(wrong, said) if s.by == "word"}
    assert found["names"].wer == pytest.approx(2 / 6)  # Mary four times, Rome twice
    assert found["rare words"].wer == pytest.approx(1 / 8)  # yesterday went is large said i then we
    assert found["other words"].wer == 0
    assert "numbers" not in found


def test_characters_are_no_words():
    rows = [utterance(i, wrong=0, normalised_reference="今 日 は 晴", alignment="CCCC") for i in range(1, 4)]
    assert not [s for s in strata(rows, rows) if s.by == "word"]


def test_strata_leave_out_what_is_not_known():
    cell = [utterance(i, wrong=0, estimated_snr_db=None, speaker=str(i)) for i in range(4)]
    assert {s.by for s in strata(cell, cell)} == {"length", "transcript"}
