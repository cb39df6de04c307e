"""A run judged against an earlier one."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.gate import main
from harness.records.recording import RunDirectory
from harness.report.gate import as_markdown
from harness.report.gate._judged import Gate, Verdict, _decided, _Tested
from harness.report.gate._limits import load_limits
from harness.stats import Sample
from harness.stats.claims import Direction, difference_of
from tests.harness.handmade import WORDS, HandMade, configuration, utterance

LIMITS = "wer = 0.5\nsize = 1\nmemory = 10\nwidths = 0.5\n"
SPEAKERS = 40
WIDE, NARROW = configuration("hqq", 8), configuration("hqq", 2)


def said(rate, seed, speakers=SPEAKERS):
    """One utterance a speaker with errors at random."""
    errors = np.random.default_rng(seed).binomial(WORDS, rate, speakers)
    return [utterance(speaker, int(count)) for speaker, count in enumerate(errors)]


def run_of(path, wide=None, narrow=None, **changes):
    made = HandMade(path)
    made.add(configuration("none"), size=20e6, said=said(0.05, 1))
    made.add(WIDE, size=5e6, against=2, said=wide or said(0.05, 2), peak_rss_bytes=1e9, **changes)
    made.add(NARROW, size=2e6, against=2, said=narrow or said(0.2, 3), peak_rss_bytes=1e9)
    made.run.write_results(made.rows)
    return path


@pytest.fixture
def earlier(tmp_path):
    return run_of(tmp_path / "earlier")


@pytest.fixture
def limits(tmp_path):
    path = tmp_path / "limits.toml"
    path.write_text(LIMITS)
    return path


def verdicts(run, earlier, limits):
    checks = Gate(run, earlier, load_limits(limits)).checks()
    return {(check.measure, check.configuration, check.split): check for check in checks}


def test_the_same_run_passes(earlier, limits, capsys):
    assert main([str(earlier), "--baseline", str(earlier), "--limits", str(limits), "--strict"]) == 1
    assert "9 pass, 0 fail, 1 cannot tell" in capsys.readouterr().out  # the memory of full precision was not measured
    found = verdicts(earlier, earlier, limits)
    assert found["wer", WIDE["configuration"], "clean"].found == "the same words"
    assert found["memory", "embedded none fp3232 64 []", "clean"].verdict is Verdict.CANNOT_TELL


def test_a_planted_row_fails(earlier, limits, tmp_path, capsys):
    planted = run_of(tmp_path / "new", wide=said(0.2, 3))
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    command = [str(planted), "--baseline", str(earlier), "--limits", str(limits)]
    assert main([*command, "--junit", str(junit), "--markdown", str(markdown)]) == 1
    suites = {suite.get("name"): suite for suite in ElementTree.parse(junit).getroot()}
    assert {name: suite.get("failures") for name, suite in suites.items()} == {
        "wer": "1", "widths": "0", "size": "0", "memory": "0",
    }  # fmt: skip
    (failure,) = suites["wer"].iter("failure")
    assert "at most 0.5 points above the baseline's" in failure.get("message")
    assert suites["memory"].get("skipped") == "1"
    (line,) = [line for line in markdown.read_text().splitlines() if line.startswith("| fail")]
    assert WIDE["configuration"] in line
    assert "1 fail" in capsys.readouterr().out


def test_more_bits_may_not_be_worse_than_fewer(earlier, limits, tmp_path):
    turned = run_of(tmp_path / "new", narrow=said(0.02, 4), wide=said(0.2, 3))
    check = verdicts(turned, earlier, limits)["widths", WIDE["configuration"], "clean"]
    assert check.verdict is Verdict.FAIL
    assert check.limit == "at most 0.5 points above that of 2 bits"


def test_a_few_utterances_cannot_tell(earlier, limits, tmp_path):
    few = HandMade(tmp_path / "new")
    few.add(WIDE, said=said(0.05, 5, speakers=8), size=5e6)
    few.run.write_results(few.rows)
    found = verdicts(few.run.path, earlier, limits)
    check = found["wer", WIDE["configuration"], "clean"]
    assert check.verdict is Verdict.CANNOT_TELL
    assert "(8 speakers)" in check.found
    assert found["cell", NARROW["configuration"], "clean"].verdict is Verdict.FAIL


def test_sizes_and_memory_have_no_interval(earlier, limits, tmp_path):
    found = verdicts(run_of(tmp_path / "new", size_bytes=5_060_000), earlier, limits)
    check = found["size", WIDE["configuration"], ""]
    assert (check.verdict, check.found) == (Verdict.FAIL, "+1.20 % (5.06 MB)")
    assert found["memory", WIDE["configuration"], "clean"].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ((1.9, 2.0, 2.1), (1.8, 1.9, 2.0), Verdict.PASS),
        ((1.9, 2.0, 2.1), (1.5, 1.7, 2.0), Verdict.CANNOT_TELL),
        ((1.9, 2.0, 2.1), (0.9, 1.0, 1.1), Verdict.FAIL),
    ],
)
def test_times_are_judged_by_their_quartiles(before, now, verdict, tmp_path):
    limits = tmp_path / "limits.toml"
    limits.write_text("latency = 20")
    runs = [run_of(tmp_path / name) for name in ("earlier", "new")]
    for run, values in zip(runs, (before, now), strict=True):
        quartiles = dict(zip(("ratio_lower_quartile", "ratio_median", "ratio_upper_quartile"), values, strict=True))
        row = {"configuration_id": WIDE["configuration_id"], "measure": "rtfx", "threads": 1, **quartiles}
        RunDirectory(run).write_latency({"rows": [row, {**row, "threads": 2, **dict.fromkeys(quartiles, 9.0)}]})
    found = verdicts(runs[1], runs[0], limits)
    assert found["latency", WIDE["configuration"], ""].verdict is verdict
    assert "was not timed" in found["latency", NARROW["configuration"], ""].found


def test_a_cell_that_failed_fails_with_its_reason(earlier, limits, tmp_path):
    made = HandMade(tmp_path / "new")
    made.add(configuration("none"), size=20e6, said=said(0.05, 1))
    made.add(WIDE, status="failed")
    made.run.write_results(made.rows)
    assert verdicts(made.run.path, earlier, limits)["cell", WIDE["configuration"], "clean"].found == "failed: it broke"


def test_some_cells_have_limits_of_their_own(earlier, tmp_path):
    limits = tmp_path / "limits.toml"
    limits.write_text("wer = 0.5\n[[but]]\ncells = { bits = 8 }\nwer = 50\n")
    found = verdicts(run_of(tmp_path / "new", wide=said(0.2, 3)), earlier, limits)
    check = found["wer", WIDE["configuration"], "clean"]
    assert (check.verdict, check.limit) == (Verdict.PASS, "at most 50 points above the baseline's")
    assert len(found) == 3


def test_checks_share_the_level_at_which_one_may_fail_by_chance():
    finding = difference_of(*(Sample.from_rows(said(rate, 7)) for rate in (0.07, 0.05)), 0.0, Direction.BELOW)
    tested = _Tested("wer", {**WIDE, "split": "clean"}, replace(finding, p=0.02), 0.0, "the baseline's")
    assert [_decided(tested, count).verdict for count in (1, 2, 3)] == [Verdict.FAIL, Verdict.FAIL, Verdict.CANNOT_TELL]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it names no limit; write one or more of wer, size, latency, memory, widths"),
        (
            "wers = 1",
            "unknown key wers; allowed here are but, latency, memory, size, wer, widths; did you mean 'wer'?",
        ),
        ("wer = -1", "key wer"),
        ("wer = nan", "key wer"),
        ('wer = "0.5"', "key wer"),
        ("[[but]]\nwer = 1", "the key but.0.cells is missing"),
        ("[[but]]\ncells = { bit = 8 }\nwer = 1", "'bit' is not one of the columns"),
        ("wer =", "not valid TOML"),
    ],
)
def test_mistakes_in_limits_are_one_sentence(text, expected, earlier, tmp_path, capsys):
    limits = tmp_path / "limits.toml"
    limits.write_text(text)
    assert main([str(earlier), "--baseline", str(earlier), "--limits", str(limits)]) == 2
    told = capsys.readouterr().err
    assert str(limits) in told
    assert expected in told
    assert told.count("\n") == 1


def test_other_experiments_and_other_speech_are_refused(earlier, limits, tmp_path, capsys):
    other = HandMade(tmp_path / "other").add(configuration("quanto", 8))
    other.run.write_results(other.rows)
    assert main([str(other.run.path), "--baseline", str(earlier), "--limits", str(limits)]) == 2
    assert "these are other experiments" in capsys.readouterr().err
    more = HandMade(tmp_path / "more").add(WIDE, said=said(0.05, 2, speakers=41))
    more.run.write_results(more.rows)
    assert main([str(more.run.path), "--baseline", str(earlier), "--limits", str(limits)]) == 2
    assert "utterance u40 is not in the baseline" in capsys.readouterr().err


def test_markdown_of_nothing_but_passes_is_a_sentence(earlier, tmp_path):
    limits = tmp_path / "limits.toml"
    limits.write_text("wer = 0.5")
    checks = Gate(earlier, earlier, load_limits(limits)).checks()
    assert as_markdown(checks) == "**3 checks: 3 pass, 0 fail, 0 cannot tell.**\n"
