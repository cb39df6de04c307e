"""A run that was tampered with, checksums mended: every falsification is found, and an honest run is left alone."""

import json
import random
import shutil

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from harness import grid, verify
from harness.embedded import MODEL_DIRECTORY
from harness.metrics import Normaliser, scores
from harness.records.files import checksums, read_json, write_json
from harness.records.recording import RunDirectory
from harness.records.results import result_rows
from harness.records.store import StoredRun
from harness.resolution import checkpoints

EXPERIMENT = """
name = "honest"
model = "{model}"
data = [{{ dataset = "embedded", split = "clean", limit = 6 }}, {{ dataset = "embedded", split = "other", limit = 5 }}]
decoding = {{ batch_size = 4, max_new_tokens = 40 }}
run = {{ device = "cpu" }}
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = [4, 2]
"""


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    shutil.copytree(MODEL_DIRECTORY, root / "model")
    (root / "honest.toml").write_text(EXPERIMENT.format(model=root / "model"))
    assert grid.main([str(root / "honest.toml"), "--out", str(root)]) == 0
    return root / "honest"


@pytest.fixture
def run(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "run")


def cells(run):
    return sorted(path.parent for path in (run / "cells").glob("*/DONE"))


def seal(cell):
    """Make the checksums fit again, as whoever falsifies would."""
    (cell / "DONE").write_text(checksums(path for path in sorted(cell.iterdir()) if path.name != "DONE"))


def change_rows(cell, change):
    """Apply `change` to every utterance row of a cell."""
    table = pq.read_table(cell / "utterances.parquet")
    rows = table.to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), cell / "utterances.parquet")
    seal(cell)


def change_one(cell, rng, change):
    chosen = rng.choice(pq.read_table(cell / "utterances.parquet").column("id").to_pylist())
    change_rows(cell, lambda row: row["id"] == chosen and change(row))


def found(run, capsys, *options):
    status = verify.main([str(run), "--again", "0", *options])
    output = capsys.readouterr().out
    assert status == (0 if "all as recorded" in output else 1)
    return status == 1


def test_an_honest_run_is_as_recorded(honest, capsys):
    assert verify.main([str(honest), "--again", "4"]) == 0
    assert "6 cells, 4 batches transcribed again: all as recorded" in capsys.readouterr().out


def worse(row):
    row["hypothesis"] = row["hypothesis"].partition(" ")[2]


def consistently_worse(row):
    """Another hypothesis with all that follows from it, so that only the tokens tell."""
    worse(row)
    row.update(scores(row["reference"], row["hypothesis"], Normaliser()))


COUNTS = ["substitutions", "deletions", "insertions", "reference_words", "character_errors", "reference_characters"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["{run}", "--seed", "-1"], "at least 0"), (["{run}/nowhere"], "nowhere: there is no such directory")],
)
def test_a_mistake_is_one_sentence(arguments, sentence, honest, capsys):
    assert verify.main([argument.format(run=honest) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_hypothesis_is_found(run, capsys, seed):
    rng = random.Random(seed)
    change_one(rng.choice(cells(run)), rng, consistently_worse if seed % 2 else worse)
    assert found(run, capsys)


@pytest.mark.parametrize("column", [*COUNTS, "empty", "loop"])
def test_a_changed_count_is_found(run, capsys, column):
    rng = random.Random(column)

    def change(row):
        row[column] = not row[column] if isinstance(row[column], bool) else row[column] + rng.choice([1, 2])

    change_one(rng.choice(cells(run)), rng, change)
    assert found(run, capsys)


@pytest.mark.parametrize("column", ["reference", "normalised_reference", "normalised_hypothesis", "id"])
def test_changed_text_is_found(run, capsys, column):
    rng = random.Random(column)
    change_one(rng.choice(cells(run)), rng, lambda row: row.update({column: row[column] + " x"}))
    assert found(run, capsys)


def test_changed_likelihoods_are_found(run, capsys):
    change_rows(cells(run)[0], lambda row: row.update(reference_nll=row["reference_nll"] * 0.99))
    assert found(run, capsys)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["utterances.parquet", "cell.json"])
def test_a_swapped_file_is_found(run, capsys, name, seed):
    a, b = random.Random(seed).sample(cells(run), 2)
    shutil.copy(b / name, a / name)
    seal(a)
    assert found(run, capsys)


def test_swapped_cells_are_found(run, capsys):
    a, b = cells(run)[:2]
    for source, target in ((a, run / "x"), (b, a), (run / "x", b)):
        source.rename(target)
    assert found(run, capsys)


@pytest.mark.parametrize("key", ["identity", "configuration_id", "status", "measured"])
def test_a_changed_record_is_found(run, capsys, key):
    cell = cells(run)[1]
    content = json.loads((cell / "cell.json").read_text())
    changed = {
        "identity": {**content["identity"], "seed": 1},
        "configuration_id": "0" * 16,
        "status": "failed",
        "measured": {**content["measured"], "size_bytes": 1},
    }
    (cell / "cell.json").write_text(json.dumps({**content, key: changed[key]}))
    seal(cell)
    assert found(run, capsys)


@pytest.mark.parametrize("column", ["wer", "wer_high", "p_permutation", "size_bytes", "difference", "rtfx"])
def test_changed_results_are_found(run, capsys, column):
    frame = pandas.read_parquet(run / "results.parquet")
    frame[column] = frame[column].astype("Float64").fillna(3) * 0.5
    frame.to_parquet(run / "results.parquet", index=False)
    (run / "results.sha256").write_text(checksums([run / "results.parquet", run / "results.csv"]))
    assert found(run, capsys)


@pytest.mark.parametrize("name", ["utterances.parquet", "layers.parquet", "DONE"])
def test_what_is_not_what_was_written_is_found(run, capsys, name):
    path = cells(run)[0] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert found(run, capsys)


def test_a_removed_cell_is_found(run, capsys):
    shutil.rmtree(cells(run)[0])
    assert found(run, capsys)


@pytest.fixture
def other_model(honest):
    """Another model under the name of the measured one, for as long as a test lasts."""
    path = honest.parent / "model" / "model.safetensors"
    before = path.read_bytes()
    weights = load_file(path)
    weights["model.encoder.layers.0.fc1.weight"][0, 0] += 1
    save_file(weights, path, {"format": "pt"})
    checkpoints._contents_hash.cache_clear()
    yield
    path.write_bytes(before)
    checkpoints._contents_hash.cache_clear()


def test_another_model_under_the_same_name_is_found(honest, other_model, capsys):
    assert verify.main([str(honest)]) == 1
    said = capsys.readouterr().out
    assert said.count("is another one now") == 6
    assert "6 cells cannot be transcribed again" in said


def falsify_all(run):
    """Rewrite one cell with everything that follows from it, the results included; its tokens fit too."""
    stored = StoredRun(run)
    check = verify.Verification(stored, verify.Experiment.model_validate(stored.experiment()))
    by_bits = {c.configuration.spec.bits: c for c in check.cells if c.data.label == "clean"}
    good, bad = (stored.utterances(by_bits[bits].cell_id) for bits in (4, 2))
    assert [row["hypothesis"] for row in good] != [row["hypothesis"] for row in bad]
    by_id = {row["id"]: row for row in good}
    change_rows(run / "cells" / by_bits[2].cell_id, lambda row: row.update(by_id[row["id"]]))
    directory = RunDirectory(run)
    directory.write_results(result_rows(directory, check.cells))


def test_a_perfect_falsification_is_found_by_hearing_again(run, capsys):
    falsify_all(run)
    assert not found(run, capsys)
    assert found(run, capsys, "--again", "100")


def test_what_cannot_be_checked_is_said(run, capsys, tmp_path):
    document = read_json(run / "experiment.json")
    document["model"][0]["path"] = str(tmp_path / "gone")
    write_json(run / "experiment.json", document)
    assert verify.main([str(run)]) == 1, "the results are of another experiment"
    (run / "experiment.json").unlink()
    assert verify.main([str(run)]) == 2
    assert "experiment.json: it is missing; run the experiment again" in capsys.readouterr().err
