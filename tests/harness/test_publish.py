"""What is published of a run: small, whole or not at all, and nothing of where it was made."""

import errno
import hashlib
import random
import shutil
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import publish, verify
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.config import load_experiment
from harness.metrics import Normaliser, Scorer, normalisation, scores
from harness.records import publishing
from harness.records._paths import Paths
from harness.records._published_tables import Utterances
from harness.records.files import checksums
from harness.records.published import DERIVED
from harness.records.reading import open_run
from harness.records.store import StoredRun


@pytest.mark.slow
def test_the_table_of_spellings_is_published_once_and_used(whole_run, tmp_path, monkeypatch):
    """Another version of the table in a later package changes nothing of what was published."""
    (row,) = pq.read_table(whole_run[1] / "spellings.parquet").to_pylist()
    assert hashlib.sha256(row["table"]).hexdigest() == row["hash"]
    before = [open_run(whole_run[1]).utterances(r["cell_id"]) for r in open_run(whole_run[1]).results()]
    (tmp_path / "other.json").write_text('{"the": "ye"}')
    monkeypatch.setattr(normalisation, "_SPELLING", tmp_path / "other.json")
    assert normalisation.Normaliser()("the") == "ye"
    assert [open_run(whole_run[1]).utterances(r["cell_id"]) for r in open_run(whole_run[1]).results()] == before


def test_it_is_small(whole_run):
    assert sum(path.stat().st_size for path in whole_run[1].iterdir()) < 100_000


@pytest.mark.slow
def test_a_study_of_the_usual_size_is_small(tmp_path):
    """35 configurations on 580 utterances of 20 words, a third of which every configuration transcribes otherwise."""
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(5000)]
    said = [rng.choices(range(5000), k=20) for _ in range(580)]
    utterances = Utterances(
        lambda split: Scorer("none"), Paths(tmp_path, load_experiment(Path("experiments/embedded.toml")))
    )
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
            rows.append(
                {**known, **scores(*texts, Normaliser("none")), "tokens": tokens, "reference_nll": rng.random()}
            )
        utterances.add(cell, "clean", rows)
    utterances.write(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000


def test_nothing_of_it_says_where_it_was_made(whole_run, published_root):
    everything = []
    for path in whole_run[1].iterdir():
        everything.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            everything.append(str(pq.read_table(path).to_pylist()))
    text = "\n".join(everything)
    for local in (published_root, published_root.resolve(), Path.home(), Path.cwd(), MODEL_DIRECTORY.parent):
        assert str(local) not in text
    assert "some one's model" in text
    assert "broken.ogg: the audio cannot be decoded" in text


def test_what_every_corpus_states_of_its_licence_stands_beside_its_texts(whole_run):
    note = (whole_run[1] / "LICENCE.txt").read_text()
    assert "folder (clean): the corpus states no licence" in note
    assert "embedded (other): Apache-2.0" in note


def test_librispeech_is_attributed():
    from harness.datasets import get

    assert all(words in get("librispeech").licence for words in ("CC BY 4.0", "Panayotov", "openslr.org/12"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("step", ["write_table", "sync"])
def test_it_is_written_whole_or_not_at_all(whole_run, tmp_path, monkeypatch, capsys, error, there, step):
    place = tmp_path / "results" / "small"
    if there:
        shutil.copytree(whole_run[1], place)
    real, calls = getattr(publishing, step), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise error
        real(*arguments)

    monkeypatch.setattr(publishing, step, failing)
    assert publish.main([str(whole_run[0]), str(place)]) == (2 if isinstance(error, OSError) else 130)
    assert "cannot be written: No space left" in capsys.readouterr().err or isinstance(error, KeyboardInterrupt)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in left} == ({place} if there else set())
    monkeypatch.undo()
    assert publish.main([str(whole_run[0]), str(place)]) == 0
    assert len(open_run(place).results()) == 6
    assert [path.name for path in place.parent.iterdir()] == ["small"]


def test_the_earlier_one_comes_back_where_the_new_one_cannot_take_its_place(whole_run, copied_run, monkeypatch):
    real = Path.rename

    def rename(path, target):
        if Path(target) == copied_run and "published.json" in {p.name for p in path.iterdir()} and not calls:
            calls.append(path)
            raise KeyboardInterrupt
        return real(path, target)

    calls = []
    monkeypatch.setattr(Path, "rename", rename)
    assert publish.main([str(whole_run[0]), str(copied_run)]) == 130
    assert calls
    assert len(open_run(copied_run).results()) == 6


def test_it_takes_the_place_of_an_earlier_one_as_a_whole(unfinished_run, copied_run):
    assert publish.main([str(unfinished_run[0]), str(copied_run)]) == 0
    assert len(open_run(copied_run).results()) == 4
    assert not (copied_run / "latency.json").exists()


def test_it_takes_the_place_of_nothing_else(whole_run, copied_run, tmp_path, capsys):
    (copied_run / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    for name, sentence in (("copied", "notes.txt"), ("file", "it is a file"), ("other", "thesis.tex")):
        assert publish.main([str(whole_run[0]), str(tmp_path / name)]) == 2
        assert sentence in capsys.readouterr().err
    assert (copied_run / "notes.txt").read_text() == "mine"


def test_a_published_run_can_be_published_again(whole_run, tmp_path):
    publish.publish(whole_run[1], tmp_path / "again")
    for name in ("results", "cells", "utterances", "references", "layers", "plan"):
        assert pq.read_table(tmp_path / "again" / f"{name}.parquet").to_pylist() == (
            pq.read_table(whole_run[1] / f"{name}.parquet").to_pylist()
        )


def test_a_run_that_was_killed_before_its_results_were_made_can_be_published(unfinished_run, tmp_path):
    run = shutil.copytree(unfinished_run[0], tmp_path / "run")
    for name in ("results.parquet", "results.csv", "results.sha256"):
        (run / name).unlink()
    publish.publish(run, tmp_path / "published")
    assert open_run(tmp_path / "published").results() == open_run(unfinished_run[1]).results()


def test_values_for_every_token_are_left_out(unfinished_run, tmp_path, capsys):
    run = shutil.copytree(unfinished_run[0], tmp_path / "run")
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


def test_scores_that_do_not_follow_are_not_published(unfinished_run, tmp_path, capsys):
    run = shutil.copytree(unfinished_run[0], tmp_path / "run")
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


def test_the_device_of_the_run_is_kept(whole_run):
    """Elsewhere `auto` may be another one, and the plan another plan."""
    assert open_run(whole_run[1]).experiment()["run"]["device"] == open_run(whole_run[1]).results()[0]["device"]
