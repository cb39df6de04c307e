"""Published runs: what they say is what the run says, wherever they are read."""

import csv
import errno
import json
import random
import shutil
import string
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import _publishing, compare, figures, grid, publish, verify
from harness._paths import Paths
from harness._published_tables import Utterances
from harness.cell import Cell
from harness.config import load_experiment
from harness.embedded import MODEL_DIRECTORY, SPEECH_DIRECTORY
from harness.errors import OutputError
from harness.files import checksums, read_json, write_json
from harness.metrics import scores
from harness.planned import asked_for, planned_cells
from harness.published import CHECKSUMS, DERIVED, PublishedRun
from harness.reading import missing, open_run
from harness.recording import RunDirectory
from harness.report.__main__ import main as write_page
from harness.results import result_rows
from harness.store import StoredRun
from harness.takeover import take_over

EXPERIMENT = """
name = "small"
model = "{root}/some one's model"
data = [
  {{ dataset = "folder", split = "clean", root = "{root}/speech" }},
  {{ dataset = "embedded", split = "other", limit = 5 }},
]
calibration = {{ utterances = 2, data = {{ dataset = "folder", split = "calibration", root = "{root}/speech" }} }}
decoding = {{ batch_size = 4, max_new_tokens = 40 }}
run = {{ device = "auto", workers = 1 }}
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = [4, 2]
"""
FOUR_BITS, TWO_BITS = ("hqq weight_only int4 per_group:64", "hqq weight_only int2 per_group:64")
LACKING = f"unfinished: 2 of 6 planned cells have no record: {TWO_BITS} on clean, other"


def speech(directory, split, count, broken=False):
    """Utterances of the embedded speech as the corpus `folder` takes them; one that cannot be decoded, if asked for."""
    directory.mkdir(parents=True)
    rows = []
    for path in sorted((SPEECH_DIRECTORY / split).glob("*/*/*.trans.txt")):
        for line in islice(path.read_text().splitlines(), 1):
            name, text = line.split(" ", 1)
            shutil.copy(path.parent / f"{name}.ogg", directory)
            rows.append([f"{name}.ogg", text, name.partition("-")[0]])
    if broken:
        (directory / "broken.ogg").write_bytes(b"no sound")
        rows.insert(0, ["broken.ogg", "NOTHING AT ALL", "nobody"])
    with (directory / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "text", "speaker"], *rows[:count]])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("publish")
    shutil.copytree(MODEL_DIRECTORY, root / "some one's model")
    (root / "some one's model" / "normalizer.json").write_text('{"the": "ye"}')
    speech(root / "speech" / "clean", "clean", 7, broken=True)
    speech(root / "speech" / "calibration", "calibration", 2)
    (root / "small.toml").write_text(EXPERIMENT.format(root=root))
    return root


@pytest.fixture(scope="module")
def unfinished(root):
    """A run of which two cells are missing, and what is published of it."""
    assert grid.main([str(root / "small.toml"), "--out", str(root / "first"), "--only", "bits=4"]) == 0
    assert publish.main([str(root / "first" / "small"), str(root / "published" / "unfinished")]) == 0
    return root / "first" / "small", root / "published" / "unfinished"


@pytest.fixture(scope="module")
def whole(root, unfinished):
    """A run that went on from there elsewhere, with what else a run can have; and what is published of it."""
    run, place = root / "second" / "small", root / "published" / "whole"
    assert grid.main([str(root / "small.toml"), "--out", str(run.parent), "--from", str(unfinished[1])]) == 0
    directory = RunDirectory(run)
    row = next(row for row in directory.results() if row["bits"] == 4)
    directory.write_analysis(row["configuration_id"], about(row) | {"layers": [], "blocks": [], "parts": []})
    timed = about(row) | {"measure": "encoder", "status": "done", "reason": "", "ratio_median": 0.5}
    directory.write_latency({"environment": {"command": f"x --out={root}"}, "decoding": {}, "rows": [timed]})
    cells = [
        Cell(c, data, {}, next(r["cell_id"] for r in directory.results() if at(r) == (c.id, data.label)), ())
        for c, data in planned_cells(asked_for(directory))
    ]
    directory.write_results(result_rows(directory, cells))
    assert publish.main([str(run), str(place)]) == 0
    return run, place


def about(row):
    return {key: row[key] for key in ("configuration_id", "configuration", "model", "split")}


def at(row):
    return row["configuration_id"], row["split"]


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole[1], tmp_path / "copied")


def same_but_for_paths(own, theirs, names=("configuration_id", "model", "reason", "error")):
    """Rows or documents that differ in nothing else than how a local model is called."""
    assert set(own) == set(theirs)
    assert {k: v for k, v in own.items() if k not in names} == {k: v for k, v in theirs.items() if k not in names}
    return True


def test_what_is_published_is_what_the_run_says(whole):
    run, published = map(open_run, whole)
    assert (type(run), type(published)) == (StoredRun, PublishedRun)
    assert len(run.results()) == 6
    assert missing(run) == missing(published) == []
    for own, theirs in zip(run.results(), published.results(), strict=True):
        assert same_but_for_paths(own, theirs)
        assert list(own) == list(theirs)
        cell = own["cell_id"]
        assert same_but_for_paths(run.finished(cell), published.finished(cell))
        assert run.utterances(cell) == published.utterances(cell)
        assert [list(row) for row in run.utterances(cell)] == [list(row) for row in published.utterances(cell)]
        for row, other in zip(run.unheard(cell), published.unheard(cell), strict=True):
            assert same_but_for_paths(row, other)
        assert run.layers(cell) == published.layers(cell)
        assert run.operations(cell) == published.operations(cell)
        assert same_but_for_paths(run.environment(cell), published.environment(cell), names=("command",))
        assert published.stamp(cell)
    assert [same_but_for_paths(*pair) for pair in zip(run.analyses(), published.analyses(), strict=True)] == [True]
    assert published.latency()["rows"][0]["ratio_median"] == 0.5
    assert sum(len(published.unheard(row["cell_id"])) for row in published.results()) == 3


def test_the_table_of_spellings_is_published_once(whole, root, tmp_path, capsys):
    """Without it words would be counted otherwise; where it is missing nothing is published."""
    published = open_run(whole[1])
    first = published.utterances(published.results()[0]["cell_id"])
    assert any("ye" in row["normalised_reference"].split() for row in first)
    assert len(pq.read_table(whole[1] / "spellings.parquet")) == 1
    table = root / "some one's model" / "normalizer.json"
    content = table.read_bytes()
    table.unlink()
    try:
        assert publish.main([str(whole[0]), str(tmp_path / "published")]) == 2
    finally:
        table.write_bytes(content)
    assert "is in no model of the experiment" in capsys.readouterr().err
    publish.publish(whole[1], tmp_path / "again")


def test_results_follow_from_what_is_published_as_from_the_run(whole):
    rows = []
    for path in whole:
        run = open_run(path)
        ids = {at(row): row["cell_id"] for row in run.results()}
        cells = [Cell(c, data, {}, ids[c.id, data.label], ()) for c, data in planned_cells(asked_for(run))]
        rows.append(result_rows(run, cells))
        assert rows[-1][0]["wer"] is not None
    assert all(same_but_for_paths(*pair) for pair in zip(*rows, strict=True))


def test_it_is_small(whole):
    assert sum(path.stat().st_size for path in whole[1].iterdir()) < 100_000


def test_a_study_of_the_usual_size_is_small(tmp_path):
    """35 configurations on 580 utterances of 20 words, a third of which every configuration transcribes otherwise."""
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(5000)]
    said = [rng.choices(range(5000), k=20) for _ in range(580)]
    utterances = Utterances({None: str.lower}, Paths(tmp_path, load_experiment(Path("experiments/embedded.toml"))))
    for cell in range(35):
        rows = []
        for number, reference in enumerate(said):
            tokens = list(reference)
            if rng.random() < 0.33:
                tokens[rng.randrange(20)] = rng.randrange(5000)
            texts = [" ".join(words[token] for token in text) for text in (reference, tokens)]
            known = {
                "id": f"{number}",
                "speaker": f"{number % 40}",
                "seconds": number / 7,
                "estimated_snr_db": number / 9,
            }
            rows.append({**known, **scores(*texts, str.lower), "tokens": tokens, "reference_nll": rng.random()})
        utterances.add(cell, "clean", rows, None)
    utterances.write(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000


def test_nothing_of_it_says_where_it_was_made(whole, root):
    everything = []
    for path in whole[1].iterdir():
        everything.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            everything.append(str(pq.read_table(path).to_pylist()))
    text = "\n".join(everything)
    for local in (root, root.resolve(), Path.home(), Path.cwd(), MODEL_DIRECTORY.parent):
        assert str(local) not in text
    assert "some one's model" in text
    assert "broken.ogg: the audio cannot be decoded" in text


def test_what_every_corpus_states_of_its_licence_stands_beside_its_texts(whole):
    note = (whole[1] / "LICENCE.txt").read_text()
    assert "folder (clean): the corpus states no licence" in note
    assert "embedded (other): Apache-2.0" in note


def test_librispeech_is_attributed():
    from harness.datasets import get

    assert all(words in get("librispeech").licence for words in ("CC BY 4.0", "Panayotov", "openslr.org/12"))


@pytest.mark.parametrize("name", ["utterances.parquet", "cells.parquet", "experiment.json", "LICENCE.txt"])
def test_a_flipped_bit_is_named(copied, name, capsys):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(OutputError, match=rf"{name}: it is not what was written"):
        open_run(copied)
    assert verify.main([str(copied)]) == 1
    assert f"{name}: it is not what was written" in capsys.readouterr().out


def test_a_newer_version_is_refused_in_one_sentence(copied, capsys):
    write_json(copied / "published.json", read_json(copied / "published.json") | {"format": 2})
    assert write_page([str(copied)]) == 2
    said = capsys.readouterr().err
    assert "published.json: it has format 2, and this version of asrquant reads up to 1" in said
    assert said.count("\n") == 1


def test_an_unfinished_run_names_what_is_missing(unfinished, tmp_path, capsys):
    for path in unfinished:
        assert write_page([str(path), "--out", str(tmp_path / "page.html")]) == 0
        assert LACKING in capsys.readouterr().out
        assert LACKING in (tmp_path / "page.html").read_text()
        assert verify.main([str(path), "--again", "0"]) == 0
        assert LACKING in capsys.readouterr().out
    assert [place.configuration for place in missing(open_run(unfinished[1]))] == [TWO_BITS] * 2


def test_going_on_does_only_the_rest(unfinished, whole, root, tmp_path, capsys):
    """Full precision is done again where others are compared with it; then all is there."""
    run = StoredRun(whole[0])
    taken = {row["bits"] for row in run.results() if "taken_over_from" in run.environment(row["cell_id"])}
    assert taken == {4}
    before = {row["cell_id"]: row["wer"] for row in StoredRun(unfinished[0]).results()}
    after = {row["cell_id"]: row["wer"] for row in run.results()}
    assert before.items() < after.items()
    assert grid.main([str(root / "small.toml"), "--out", str(tmp_path), "--from", str(whole[1])]) == 0
    said = capsys.readouterr().out
    assert "6 finished cells taken over" in said
    assert "cells to do" not in said
    third = StoredRun(tmp_path / "small")
    assert [row["wer"] for row in third.results()] == [row["wer"] for row in run.results()]
    assert verify.main([str(third.path), "--again", "1"]) == 0


def test_cells_that_were_not_planned_are_not_used_and_it_says_why(whole, tmp_path):
    run = open_run(whole[1])
    cells = [
        Cell(c, data, {**content["identity"], "machine": "vax"}, "0" * 16, ())
        for c, data in planned_cells(asked_for(run))
        for row in run.results()
        if at(row) == (c.id, data.label) and (content := run.finished(row["cell_id"]))
    ]
    found = take_over(run, cells[1:], cells[1:], RunDirectory(tmp_path))
    assert (found.taken, found.strange) == (0, 6)
    machine = run.finished(run.results()[0]["cell_id"])["identity"]["machine"]
    assert found.reasons == ("the plan has no such cell", f"machine is {machine} there and vax here")
    assert "6 cells not used" in list(found.sentences("x"))[-1]


def test_what_is_not_published_cannot_be_gone_on_from(root, unfinished, capsys):
    assert grid.main([str(root / "small.toml"), "--from", str(unfinished[0])]) == 2
    assert "is not a published run" in capsys.readouterr().err


def test_verify_checks_what_there_is_and_says_what_there_is_not(whole, capsys):
    assert verify.main([str(whole[1])]) == 0
    said = capsys.readouterr().out
    assert "models and speech were not looked at" in said
    assert "6 cells, 0 batches heard again: all as recorded" in said


def seal(directory):
    names = sorted(path for path in directory.iterdir() if path.name != CHECKSUMS)
    (directory / CHECKSUMS).write_text(checksums(names))


def change(path, alter):
    table = pq.read_table(path)
    rows = table.to_pylist()
    alter(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    seal(path.parent)


def worse(rows):
    rows[-1]["hypothesis"] = "NOT THIS"


def other_seed(rows):
    document = json.loads(rows[0]["document"])
    document["identity"]["seed"] += 1
    rows[0]["document"] = json.dumps(document)


def better(rows):
    rows[-1]["wer"] /= 2


@pytest.mark.parametrize(
    ("name", "alter", "sentence"),
    [
        ("utterances", worse, "wer"),
        ("cells", other_seed, "its identity does not have this id"),
        ("results", better, "wer differ"),
    ],
)
def test_verify_finds_what_was_changed_under_new_checksums(copied, capsys, name, alter, sentence):
    change(copied / f"{name}.parquet", alter)
    assert verify.main([str(copied)]) == 1
    assert sentence in capsys.readouterr().out


def test_figures_and_comparisons_are_the_runs(whole, tmp_path, capsys):
    names = []
    for path in whole:
        assert figures.main([str(path), "--out", str(tmp_path / path.name)]) == 0
        names.append({figure.name: figure.read_bytes() for figure in (tmp_path / path.name).glob("*.png")})
        capsys.readouterr()
        assert compare.main([str(path), "full precision float32 @ clean", f"{TWO_BITS} @ clean", "--json"]) == 0
        names.append(json.loads(capsys.readouterr().out))
    assert list(names[0]) == list(names[2])
    assert names[0]
    assert names[1] == names[3]


def test_files_that_are_made_of_it_do_not_go_into_it(copied, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in copied.iterdir())
    assert write_page([str(copied)]) == 0
    assert capsys.readouterr().out == "runs/copied/report.html\n"
    assert figures.main([str(copied)]) == 0
    assert list(Path("runs/copied/figures").glob("*.svg"))
    assert sorted(path.name for path in copied.iterdir()) == before


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("step", ["write_table", "sync"])
def test_it_is_written_whole_or_not_at_all(whole, tmp_path, monkeypatch, capsys, error, there, step):
    place = tmp_path / "results" / "small"
    if there:
        shutil.copytree(whole[1], place)
    real, calls = getattr(_publishing, step), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise error
        real(*arguments)

    monkeypatch.setattr(_publishing, step, failing)
    assert publish.main([str(whole[0]), str(place)]) == (2 if isinstance(error, OSError) else 130)
    assert "cannot be written: No space left" in capsys.readouterr().err or isinstance(error, KeyboardInterrupt)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in left} == ({place} if there else set())
    monkeypatch.undo()
    assert publish.main([str(whole[0]), str(place)]) == 0
    assert len(open_run(place).results()) == 6
    assert [path.name for path in place.parent.iterdir()] == ["small"]


def test_the_earlier_one_comes_back_where_the_new_one_cannot_take_its_place(whole, copied, monkeypatch):
    real = Path.rename

    def rename(path, target):
        if Path(target) == copied and "published.json" in {p.name for p in path.iterdir()} and not calls:
            calls.append(path)
            raise KeyboardInterrupt
        return real(path, target)

    calls = []
    monkeypatch.setattr(Path, "rename", rename)
    assert publish.main([str(whole[0]), str(copied)]) == 130
    assert calls
    assert len(open_run(copied).results()) == 6


def test_it_takes_the_place_of_an_earlier_one_as_a_whole(unfinished, copied):
    assert publish.main([str(unfinished[0]), str(copied)]) == 0
    assert len(open_run(copied).results()) == 4
    assert not (copied / "latency.json").exists()


def test_it_takes_the_place_of_nothing_else(whole, copied, tmp_path, capsys):
    (copied / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    for name, sentence in (("copied", "notes.txt"), ("file", "it is a file"), ("other", "thesis.tex")):
        assert publish.main([str(whole[0]), str(tmp_path / name)]) == 2
        assert sentence in capsys.readouterr().err
    assert (copied / "notes.txt").read_text() == "mine"


def test_a_published_run_can_be_published_again(whole, tmp_path):
    publish.publish(whole[1], tmp_path / "again")
    for name in ("results", "cells", "utterances", "references", "layers", "plan"):
        assert pq.read_table(tmp_path / "again" / f"{name}.parquet").to_pylist() == (
            pq.read_table(whole[1] / f"{name}.parquet").to_pylist()
        )


def test_a_run_that_was_killed_before_its_results_were_made_can_be_published(unfinished, tmp_path):
    run = shutil.copytree(unfinished[0], tmp_path / "run")
    for name in ("results.parquet", "results.csv", "results.sha256"):
        (run / name).unlink()
    publish.publish(run, tmp_path / "published")
    assert open_run(tmp_path / "published").results() == open_run(unfinished[1]).results()


def test_values_for_every_token_are_left_out(unfinished, tmp_path, capsys):
    run = shutil.copytree(unfinished[0], tmp_path / "run")
    for cell in (run / "cells").iterdir():
        table = pq.read_table(cell / "utterances.parquet")
        rows = [row | {"divergence": [0.25] * len(row["tokens"])} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows), cell / "utterances.parquet")
        (cell / "DONE").write_text(checksums(sorted(p for p in cell.iterdir() if p.name != "DONE")))
    publish.publish(run, tmp_path / "published")
    published = open_run(tmp_path / "published")
    assert published.dropped == ["divergence"]
    cell = published.results()[0]["cell_id"]
    assert [row["tokens"] for row in published.utterances(cell)] == [
        row["tokens"] for row in StoredRun(run).utterances(cell)
    ]
    assert "divergence" not in published.utterances(cell)[0]
    assert verify.main([str(tmp_path / "published")]) == 0
    assert "what follows from divergence" in capsys.readouterr().out


def test_scores_that_do_not_follow_are_not_published(unfinished, tmp_path, capsys):
    run = shutil.copytree(unfinished[0], tmp_path / "run")
    cell = next(iter(sorted((run / "cells").iterdir())))
    table = pq.read_table(cell / "utterances.parquet")
    rows = table.to_pylist()
    rows[0]["insertions"] += 1
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), cell / "utterances.parquet")
    (cell / "DONE").write_text(checksums(sorted(p for p in cell.iterdir() if p.name != "DONE")))
    assert publish.main([str(run), str(tmp_path / "published")]) == 2
    assert "insertions does not follow" in capsys.readouterr().err
    assert not (tmp_path / "published").exists()


def test_all_that_is_left_out_can_be_computed():
    assert set(DERIVED) | {"reference", "hypothesis"} == set(scores("A", "a", str.lower))


def test_the_device_of_the_run_is_kept(whole):
    """Elsewhere `auto` may be another one, and the plan another plan."""
    assert open_run(whole[1]).experiment()["run"]["device"] == open_run(whole[1]).results()[0]["device"]
