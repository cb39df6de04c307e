"""Utterances cut at the pauses of their word alignments."""

import numpy as np
import pytest

from harness import datasets
from harness.datasets import SAMPLE_RATE, Data
from harness.datasets._cut import MARGIN
from harness.errors import ConfigError, DataError
from harness.resolution.identity import _check_different, _check_disjoint

CLEAN = {"dataset": "embedded", "split": "clean"}


@pytest.fixture(scope="module")
def whole():
    return datasets.load(Data(**CLEAN, limit=3)).utterances


def lines(utterance, times):
    """Its words, in capitals, at `times` (begin, end)."""
    words = zip(utterance.text.split(), times, strict=True)
    return "".join(f"{utterance.id} 1 {b:g} {e - b:g} {word.upper()} 0.9\n" for word, (b, e) in words)


def times(utterance, pause_before=()):
    """A tenth of a second for each word, one after the other; half a second before some."""
    found, at = [], 0.1
    for place, _ in enumerate(utterance.text.split()):
        at += 0.5 if place in pause_before else 0.0
        found.append((at, at + 0.1))
        at += 0.1
    return found


@pytest.fixture
def aligned(tmp_path, whole):
    """The path of alignments: one pause in the first utterance, two in the second, nothing about the third."""
    path = tmp_path / "words.ctm"
    text = ";; made by hand\n" + lines(whole[0], times(whole[0], {2})) + "\n" + lines(whole[1], times(whole[1], {1, 3}))
    path.write_text(text)
    return path


def test_what_stands_between_pauses_is_an_utterance(aligned, whole):
    corpus = datasets.load(Data(**CLEAN, alignments=str(aligned)))
    first, second = (utterance.text.split() for utterance in whole[:2])
    assert [u.text.split() for u in corpus.utterances] == [first[:2], first[2:], second[:1], second[1:3], second[3:]]
    assert [u.parts for u in corpus.utterances] == [(whole[0].id,)] * 2 + [(whole[1].id,)] * 3
    assert {u.speaker for u in corpus.utterances} == {u.speaker for u in whole[:2]}
    samples = whole[0].waveform()
    begin, end = (round(seconds * SAMPLE_RATE) for seconds in (0.0, 0.3 + MARGIN))
    np.testing.assert_array_equal(corpus.utterances[0].waveform(), samples[begin:end])
    again = corpus.utterances[1].waveform()
    np.testing.assert_array_equal(again, samples[end : end + len(again)])


def test_limit_and_longest_are_of_the_pieces(aligned):
    short = datasets.load(Data(**CLEAN, alignments=str(aligned), max_seconds=0.6))
    assert [len(u.text.split()) for u in short.utterances] == [2, 1]
    assert all(u.seconds() <= 0.6 for u in short.utterances)
    assert len(datasets.load(Data(**CLEAN, alignments=str(aligned), limit=3)).utterances) == 3


def test_alignments_and_how_it_is_cut_identify_the_corpus(aligned, whole):
    data = Data(**CLEAN, alignments=str(aligned))
    before = datasets.load(data)
    aligned.write_text(lines(whole[0], times(whole[0], {3})) + lines(whole[1], times(whole[1], {1, 3})))
    after = datasets.load(data)
    assert before.id == after.id
    assert before.id.endswith("cut at pauses (version 1)")
    assert before.revision != after.revision
    assert data.label == "clean cut at pauses"
    assert data.model_copy(update={"join_seconds": 60.0}).label == "clean cut at pauses joined to 60 s"


def test_calibration_on_what_is_tested_in_pieces_is_refused(aligned):
    data = Data(**CLEAN, alignments=str(aligned))
    source = Data(**CLEAN, limit=3)
    with pytest.raises(ConfigError, match="shares utterances"):
        _check_disjoint(source, datasets.load(source), {data: datasets.load(data)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{id} 1 0.1 0.2", "words.ctm:1: a line is recording, channel, begin, duration and word"),
        ("{id} 1 soon 0.2 the", "words.ctm:1: a line is recording"),
        ("{id} 1 0.1 -0.2 the", "words.ctm:1: begin and duration are seconds from 0 on; they are 0.1 and -0.2"),
        ("{id} 1 0.1 nan the", "words.ctm:1: begin and duration are seconds"),
        ("{id} 1 0.1 0.2 somethingelse", "the word is 'somethingelse', and the reference has "),
        ("{id} 1 0.1 0.2 {first}", "has 1 words in the alignments and"),
        ("stranger 1 0.1 0.2 the", "it has recordings \\(such as 'stranger'\\), but none of"),
        ("", "it has recordings \\(none\\), but none of"),
    ],
)
def test_alignments_that_do_not_fit_are_one_sentence(tmp_path, whole, text, expected):
    path = tmp_path / "words.ctm"
    path.write_text(text.format(id=whole[0].id, first=whole[0].text.split()[0]))
    with pytest.raises(DataError, match=expected):
        datasets.load(Data(**CLEAN, alignments=str(path)))


def test_words_behind_the_end_or_out_of_order_are_refused(tmp_path, whole):
    path = tmp_path / "words.ctm"
    own = times(whole[0])
    path.write_text(lines(whole[0], [*own[:-1], (90.0, 90.2)]))
    last = datasets.load(Data(**CLEAN, alignments=str(path))).utterances[-1]
    with pytest.raises(DataError, match=r"the word ends at 90.2 s, and the recording at"):
        last.waveform()
    path.write_text(lines(whole[0], [(0.1, 5.0), *own[1:]]))
    with pytest.raises(DataError, match=r"begins 4.80 s before the one before it ends"):
        datasets.load(Data(**CLEAN, alignments=str(path)))


def test_a_directory_of_alignments_is_read_whole(tmp_path, aligned):
    below = tmp_path / "all" / "speaker"
    below.mkdir(parents=True)
    (below / "a.ctm").write_text(aligned.read_text())
    (tmp_path / "none").mkdir()
    one, many = (datasets.load(Data(**CLEAN, alignments=str(path))) for path in (aligned, tmp_path / "all"))
    assert one.revision == many.revision
    with pytest.raises(DataError, match=r"no \.ctm file below this directory"):
        datasets.load(Data(**CLEAN, alignments=str(tmp_path / "none")))
    with pytest.raises(DataError, match="cannot be read"):
        datasets.load(Data(**CLEAN, alignments=str(tmp_path / "absent.ctm")))


def test_pauses_of_just_a_fifth_of_a_second_are_pauses(tmp_path, whole):
    """Hundredths, as CTM files have them: .5 + .6 and 1.3 are less than .2 apart as floats."""
    places = [(1.3 + i / 10, 1.4 + i / 10) for i in range(len(whole[0].text.split()) - 1)]
    path = tmp_path / "words.ctm"
    path.write_text(lines(whole[0], [(0.5, 0.5 + 0.6), *places]).replace("1 0.5 0.6", "1 0.50 0.60"))
    assert len(datasets.load(Data(**CLEAN, alignments=str(path))).utterances) == 2


def test_whole_recordings_and_as_many_pieces_are_two_test_sets(tmp_path, whole):
    path = tmp_path / "words.ctm"
    path.write_text("".join(lines(utterance, times(utterance)) for utterance in whole))
    data = Data(**CLEAN, alignments=str(path)), Data(**CLEAN, limit=3)
    corpora = {one: datasets.load(one) for one in data}
    assert [len(corpus.utterances) for corpus in corpora.values()] == [3, 3]
    _check_different(corpora)


def test_a_blank_name_is_not_the_working_directory():
    with pytest.raises(ValueError, match="at least 1 character"):
        Data(**CLEAN, alignments="")
