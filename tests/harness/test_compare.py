"""The command line of comparisons: two cells of a run, or files of transcripts."""

import json
import shutil

import pandas
import pytest

from harness.compare import main
from tests.conftest import REAL_DATA
from tests.harness.runs import PLANNED, write_run

REF = "1-a\tone two three four\n1-b\tfive six\n2-a\tseven eight nine\n2-b\tten\n"
A = "1-a\tone two three\n1-b\tfive six\n2-a\tseven ate nine\n2-b\tten\n"
B_TRN = "seven eight nine (2-a)\nten (2-b)\none two three four (1-a)\nfive six and (1-b)\n"
KEYS = {
    "a": {"errors", "substitutions", "deletions", "insertions", "reference_words", "wer", "low", "high"},
    "difference": {"wer", "low", "high", "p_permutation", "relative", "detectable"},
    "mapsswe": {"segments", "mean", "standard_deviation", "z", "p"},
}


@pytest.fixture
def files(tmp_path):
    def write(**texts):
        paths = {name: tmp_path / name for name in texts}
        for name, text in texts.items():
            paths[name].write_text(text)
        return [str(path) for path in paths.values()]

    return write


def as_json(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_two_files_in_both_forms(files, capsys):
    ref, a, b = files(ref=REF, a=A, b=B_TRN)
    found = as_json(capsys, "--ref", ref, a, b)
    assert set(found) == {"a", "b", "changes", "difference", "mapsswe", "identical"}
    assert {key: set(found[key]) for key in KEYS} == KEYS
    assert set(found["b"]) == KEYS["a"]
    assert (found["a"]["deletions"], found["a"]["substitutions"], found["a"]["errors"]) == (1, 1, 2)
    assert (found["b"]["insertions"], found["b"]["errors"]) == (1, 1)
    assert found["a"]["reference_words"] == 10
    assert found["difference"]["wer"] == pytest.approx(0.1)
    assert found["difference"]["relative"] == pytest.approx(1.0)
    assert found["difference"]["p_permutation"] == 1.0
    assert found["identical"] is False


def test_identical_files(files, capsys):
    ref, a = files(ref=REF, a=A)
    found = as_json(capsys, "--ref", ref, a, a)
    assert found["identical"] is True
    assert found["difference"]["wer"] == 0
    assert found["difference"]["p_permutation"] is None
    main(["--ref", ref, a, a])
    assert "identical, so nothing was tested" in capsys.readouterr().out


def test_words_for_people(files, capsys):
    ref, a, b = files(ref=REF, a=A, b=B_TRN)
    assert main(["--ref", ref, a, b]) == 0
    text = capsys.readouterr().out
    assert "A minus B: +10.00 points of WER" in text
    assert "2 speakers were resampled" in text
    assert "cannot reach p < .05" in text
    assert "eight>ate" in text
    assert "-four-" in text
    assert "+and+" in text


def test_speakers_from_a_column(files, capsys):
    columns = "id\ttext\tspeaker\n" + "".join(f"{line}\tanna{i % 3}\n" for i, line in enumerate(REF.splitlines()))
    ref, a, b = files(ref=columns, a=A, b=B_TRN)
    assert main(["--ref", ref, a, b]) == 0
    assert "3 speakers were resampled" in capsys.readouterr().out


def test_ids_without_a_speaker_fall_back_to_utterances_and_say_so(files, capsys):
    ref, a, b = files(ref="u1\tone two\nu2\tthree\n", a="u1\tone\nu2\tthree\n", b="u1\tone two\nu2\tthree\n")
    assert main(["--ref", ref, a, b]) == 0
    text = capsys.readouterr().out
    assert "utterances were taken as independent" in text


def test_normalisers(files, capsys):
    ref, a, b = files(
        ref="1-a\tMr. Smith's 2 dogs\n2-a\tx\n", a="1-a\tmister smith's two dogs\n2-a\tx\n", b="1-a\t\n2-a\tx\n"
    )
    assert as_json(capsys, "--ref", ref, a, b)["a"]["errors"] == 3
    found = as_json(capsys, "--ref", ref, a, b, "--normalizer", "whisper-english")
    assert found["a"]["errors"] == 0
    assert found["b"]["deletions"] == found["b"]["errors"] > 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"a": A + "3-a\tmore\n"}, "has 1 utterance that"),
        ({"a": A.replace("2-b\tten\n", "")}, "lacks 1 of the 4 utterances"),
        ({"a": A + "1-a\tagain\n"}, "line 5: utterance 1-a is there a second time"),
        ({"a": "no form at all\n"}, "line 1: neither id<TAB>text nor text (id)"),
        ({"a": "1-a\tx\ty\tz\n"}, "it has 4 fields"),
        ({"a": ""}, "there are no utterances"),
        ({"a": "{one / won} two (1-a)\n"}, "alternatives"),
        ({"ref": "".join(f"{line.split(chr(9))[0]}\t\n" for line in REF.splitlines())}, "no words"),
    ],
)
def test_bad_files_are_one_sentence(files, capsys, changes, sentence):
    ref, a, b = files(**{"ref": REF, "a": A, "b": B_TRN} | changes)
    assert main(["--ref", ref, a, b]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_bad_bytes_and_missing_files(tmp_path, files, capsys):
    ref, a = files(ref=REF, a=A)
    broken = tmp_path / "broken"
    broken.write_bytes(b"1-a\t\xff\xfe\n")
    assert main(["--ref", ref, a, str(broken)]) == 2
    assert "broken: cannot be read as UTF-8" in capsys.readouterr().err
    assert main(["--ref", ref, a, str(tmp_path / "nothing")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["--ref", ref, a]) == 2
    assert "two files" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    def errors(configuration, split, speaker, number):
        return 2 + int(configuration.spec.bits == 3 and number == 0)

    path = tmp_path_factory.mktemp("run")
    write_run(path, errors, [c for c in PLANNED if c.backend in ("none", "hqq")])
    return str(path)


def test_two_cells_by_name_and_by_the_beginning_of_the_id(run, capsys):
    found = as_json(capsys, run, "hqq weight_only int3 per_group:64 @ clean", "full precision float32 @ clean")
    assert found["difference"]["wer"] == pytest.approx(0.25 / 20)
    ids = [next(c.id for c in PLANNED if c.label == name) for name in ("hqq weight_only int3 per_group:64",)]
    assert as_json(capsys, run, f"{ids[0]}-clean", "full precision float32 @ clean") == found


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (["nothing", "full precision float32 @ clean"], "no finished cell is called 'nothing'"),
        (["", "full precision float32 @ clean"], "names 12 cells"),
        (["full precision float32 @ other", "full precision float32 @ clean"], "different test sets"),
        (["full precision float32 @ other"], "name a run and two cells"),
    ],
)
def test_bad_cells_are_one_sentence(run, capsys, cells, sentence):
    assert main([run, *cells]) == 2
    assert sentence in capsys.readouterr().err


def test_what_is_broken_in_a_run_is_one_sentence(tmp_path, run, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    cells = ["full precision float32 @ clean", "hqq weight_only int4 per_group:64 @ clean"]
    broken = next((copy / "cells").glob("*-clean/utterances.parquet"))
    for damage in (lambda: broken.write_bytes(b"nothing"), lambda: shutil.rmtree(broken.parent)):
        damage()
        assert main([str(copy), f"{broken.parent.name}", cells[0]]) == 2
        assert str(broken.parent) in capsys.readouterr().err
    pandas.DataFrame({"cell_id": ["a"]}).to_parquet(copy / "results.parquet")
    assert main([str(copy), *cells]) == 2
    assert "not what was written" in capsys.readouterr().err
    assert main([str(copy), *cells, "--show", "-1"]) == 2
    assert "--show is -1" in capsys.readouterr().err


def test_no_results_and_a_normaliser_for_cells(tmp_path, run, capsys):
    assert main([str(tmp_path), "a", "b"]) == 2
    assert "run the experiment first" in capsys.readouterr().err
    assert main([run, "a", "b", "--normalizer", "none"]) == 2
    assert "cells were scored" in capsys.readouterr().err


def test_published_transcripts(capsys):
    folder = REAL_DATA / "scoring" / "fbai"
    if not folder.is_dir():
        pytest.skip("no scored transcripts in ../shared/data/scoring beside the repository")
    systems = [str(folder / f"test-clean.{name}.tsv") for name in ("b1.rnnt_baseline", "b2.b1+nnlm")]
    found = as_json(capsys, "--ref", str(folder / "test-clean.ref.tsv"), *systems)
    assert (found["a"]["errors"], found["b"]["errors"]) == (1921, 1467)
    assert found["mapsswe"]["segments"] == 1536
    assert found["mapsswe"]["z"] == pytest.approx(13.773, abs=0.0005)


def test_of_files_it_is_said_that_case_counts(files, capsys):
    command = ["--ref", *files(ref=REF, a=A, b=B_TRN)]
    assert main(command) == 0
    assert "words are compared as they are written; --normalizer auto" in capsys.readouterr().out
    assert main([*command, "--normalizer", "none"]) == 0
    assert "as they are written" not in capsys.readouterr().out
