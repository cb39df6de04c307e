"""A search end to end on the embedded benchmark: who is never transcribed, who is left, and what goes on."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from harness import grid, search, transcribe
from harness.embedded import SPEECH_DIRECTORY
from harness.execution.racing import stages
from harness.records.layout import MODELS
from harness.records.parts import Parts
from harness.records.reading import open_run
from harness.report.race import Entrant, _table
from harness.resolution.batching import speaker_plan
from harness.search import _bytes

EXPERIMENT = """
name = "race"
model = "embedded"
data = [{ dataset = "embedded", split = "clean", limit = 24 }]
decoding = { batch_size = 4, max_new_tokens = 40, batches = "speakers" }
run = { device = "cpu", workers = 1 }
[[grid]]
backend = "quanto"
bits = 8
[[grid]]
backend = "hqq"
granularity = ["per_group:64", "per_group:96"]
bits = 4
[[grid]]
backend = "hqq"
granularity = "per_channel"
bits = 1
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("search")
    (directory / "race.toml").write_text(EXPERIMENT)
    return directory


@pytest.fixture
def run(root, capsys):
    """Run the command; its status and all that it said, without breaks of lines."""

    def call(*arguments, command=search, file=root / "race.toml"):
        status = command.main([str(file), "--out", str(root), *arguments])
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    return call


def test_it_races_what_is_small_enough_and_transcribes_nothing_else(run, root):
    status, said = run("--max-size", "5.6MB")
    assert status == 0, said
    assert "5 configurations; rounds of 16, 24 speakers" in said
    assert (
        "2 configurations on 16 of 24 speakers: 1 certainly worse, 0 not better by more than 0.3 points, decided"
        in said
    )
    assert "winner: hqq weight_only int4 per_group:64 5.54 MB" in said
    assert "none of at most 5.60 MB is better by more than 0.3 points of WER" in said
    assert "hqq weight_only int4 per_group:96: unsupported:" in said
    assert "cost: 56 of the 120 utterances of the full grid (47%), 56 of them now; quantized 4 times now" in said
    assert "save it: python -m harness.search" in said
    by_size = {Parts(root / "race", path.name).size(): path.name for path in (root / "race" / "parts").iterdir()}
    kept = [Parts(root / "race", by_size[size]).count() for size in sorted(by_size)]
    assert kept == [4, 4, 0], "batches of the two that raced, and none of the one that is too large"


def test_again_it_does_nothing_and_says_the_same(run):
    status, said = run("--max-size", "5.6MB")
    assert (status, "0 of them now; quantized 0 times now" in said) == (0, True)
    assert "winner: hqq weight_only int4 per_group:64 5.54 MB" in said


def test_nothing_small_enough_is_one_sentence_with_the_smallest(run):
    status, said = run("--max-size", "1MB")
    assert status == 1
    assert "no configuration has at most 1.00 MB; the smallest, hqq weight_only int1 per_channel, has 3.04 MB" in said
    assert "winner" not in said


def test_the_smallest_under_a_loss_goes_on_and_is_saved(run, root, capsys):
    status, said = run("--max-loss", "5", "--save", str(root / "winner"))
    assert status == 0, said
    assert "winner: hqq weight_only int4 per_group:64" in said
    assert "it is at most 5.3 points of WER beyond full precision, and no smaller one is at most 5 points" in said
    file = next((SPEECH_DIRECTORY / "clean").rglob("*.ogg"))
    assert transcribe.main([str(root / "winner"), str(file)]) == 0
    assert file.name in capsys.readouterr().out
    assert run("--max-loss", "5", "--save", str(root / "winner"))[0] == 2


def test_nothing_within_a_loss_is_one_sentence(run):
    status, said = run("--max-loss", "5", "--only", "backend=hqq,bits=1")
    assert status == 1
    assert "no configuration is at most 5 points beyond full precision, so that the smallest is full precision" in said


def test_the_grid_goes_on_from_there(run, root):
    directory = root / "race" / "parts"
    kept = {path.name: Parts(root / "race", path.name).load(0) for path in directory.iterdir()}
    status, said = run(command=grid)
    assert status == 0, said
    finished = open_run(root / "race")
    assert {row["status"] for row in finished.results()} == {"done", "unsupported"}
    for cell_id, part in kept.items():
        tokens = {row["id"]: row["tokens"] for row in finished.utterances(cell_id)}
        assert len(tokens) == 24
        assert part is None or all(tokens[row["id"]] == row["tokens"] for row in part.rows)
    assert run("--max-size", "5.6MB")[0] == 0


CALIBRATED = """
name = "calibrated"
model = "embedded"
data = [{ dataset = "embedded", split = "clean", limit = 24 }]
decoding = { batch_size = 4, max_new_tokens = 40, batches = "speakers" }
calibration = { data = { dataset = "embedded", split = "calibration" }, utterances = 8 }
run = { device = "cpu", workers = 1 }
[[grid]]
backend = "ptq"
granularity = "per_group:64"
bits = 4
method = ["rtn", "gptq", "awq"]
[[grid]]
backend = "ptq"
granularity = "per_group:64"
bits = 8
method = "gptq"
"""


@pytest.mark.slow
def test_a_calibrated_model_is_made_once_for_all_rounds(root, tmp_path, monkeypatch, capsys):
    """What later rounds hear is what one round hears; and GPTQ is not calibrated where it would be too large."""
    file = tmp_path / "calibrated.toml"
    file.write_text(CALIBRATED)
    places = []

    def gone(path, **named):
        places.extend(sorted(found.name for found in path.iterdir()) if path.name == MODELS else [])
        shutil.rmtree(path, **named)

    monkeypatch.setattr("harness.execution.racing.shutil", SimpleNamespace(rmtree=gone))
    assert search.main([str(file), "--out", str(tmp_path), "--max-size", "6MB"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rounds of 16, 24 speakers" in said
    assert len(places) == 2, "the calibrated ones that are small enough"
    sizes = {
        path.name: Parts(tmp_path / "calibrated", path.name).size()
        for path in (tmp_path / "calibrated" / "parts").iterdir()
    }
    assert grid.main([str(file), "--out", str(tmp_path / "again")]) == 0
    heard = [open_run(path / "calibrated") for path in (tmp_path, tmp_path / "again")]
    known = {row["cell_id"]: row["size_bytes"] for row in heard[1].results()}
    assert any(size > 6e6 for size in sizes.values())
    assert all(known[name] == size for name, size in sizes.items())
    for row in heard[0].results():
        own, others = ({u["id"]: u["tokens"] for u in run.utterances(row["cell_id"])} for run in heard)
        assert all(list(others[name]) == list(tokens) for name, tokens in own.items())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-size", "60"], "--max-size 60: write a number with its unit, such as 60MB"),
        (["--max-size", "0MB"], "write a number with its unit"),
        (["--max-loss", "-1"], "--max-loss is -1; it must be a number of points, at least 0"),
        (["--max-loss", "nan"], "--max-loss is nan"),
        (["--max-loss", "1", "--tolerance", "inf"], "--tolerance is inf"),
        (["--max-loss", "1", "--confidence", "1"], "--confidence is 1; it must be at least 0.5 and below 1"),
        (["--max-loss", "1", "--workers", "-1"], "--workers is -1"),
        (["--max-loss", "1", "--data", "dirty"], "--data dirty: the experiment has clean"),
        (
            ["--max-loss", "1", "--set", "decoding.batches=length"],
            'set decoding.batches = "speakers", which is "length"',
        ),
        (["--max-loss", "1", "--set", "run.engine=ray"], 'run.engine is "ray": a search runs on this machine'),
        (["--max-loss", "1", "--only", "backend=none"], "there is full precision alone"),
        (["--max-loss", "1", "--limit", "6"], "clean has 6 speakers; a search compares by speakers and needs 8"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(run, arguments, sentence):
    status, said = run(*arguments)
    assert (status, sentence in said) == (2, True), said


def test_of_several_models_or_test_sets_one_is_to_be_named(run, tmp_path):
    file = tmp_path / "several.toml"
    models = 'model = [{ path = "embedded" }, { path = "embedded-moonshine" }]'
    data = 'data = [{ dataset = "embedded", split = "clean" }, { dataset = "embedded", split = "other" }]'
    lines = [line for line in EXPERIMENT.splitlines() if not line.startswith(("model", "data"))]
    file.write_text("\n".join([models, data, *lines]))
    assert "there are 2 test sets; choose with --data clean or other" in run("--max-loss", "1", file=file)[1]
    said = run("--max-loss", "1", "--data", "other", file=file)
    assert said[0] == 2
    assert 'choose with --only "model=embedded"' in said[1]


@pytest.mark.parametrize("goals", [[], ["--max-size", "1MB", "--max-loss", "1"]])
def test_one_goal_is_needed_and_no_more(run, goals):
    with pytest.raises(SystemExit) as ended:
        run(*goals)
    assert ended.value.code == 2


def test_sizes_have_units():
    assert [_bytes(text) for text in ("60MB", "1.5 gb", "1KiB", ".5MiB")] == [60_000_000, 1_500_000_000, 1024, 524_288]


def test_looks_are_at_whole_speakers():
    speakers = [[f"{speaker}-{i}" for i in range(12)] for speaker in range(40)]
    rng = np.random.default_rng(0)
    plan = speaker_plan(speakers, {name: rng.random() for own in speakers for name in own}, 16)
    assert stages(speakers, plan) == {12: 12, 21: 21, 40: 40}, "blocks are of three speakers, in three batches"


def test_brackets_of_labels_are_shown_as_they_are():
    own = Entrant("ptq [tied 6-bit]", 5_000_000, *(np.array(counts) for counts in ([1.0, 2, 3], [10.0] * 3, [1.0] * 3)))
    console = Console(file=io.StringIO(), width=120)
    console.print(_table([(own, own.loss)], "WER", "minus the winner"), markup=False)
    text = console.file.getvalue()
    assert "ptq [tied 6-bit]" in text
    assert "minus the winner, points [95%]" in text
