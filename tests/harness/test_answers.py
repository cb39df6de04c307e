"""What commands answer to a new user: no yes where it is a no, no silence, and names that can be typed."""

import pytest

from backends import CheckpointError, QuantSpec, Scheme, capability, load, quantize
from backends import __main__ as backends_command
from backends.core.codes import PerGroup
from harness import analyze, compare, grid, transcribe, verify
from harness.embedded import MODEL_DIRECTORY
from harness.execution import preparation
from harness.recognition.loading import load_recognizer
from harness.report import estimate
from harness.report.tables import _legend
from tests.harness.broken_checkpoints import edit_features, linked
from tests.harness.publications import speech

EXPERIMENT = """
name = "answers"
model = [{models}]
data = [{{ dataset = "folder", root = "{root}/speech", split = "clean" }}]
[decoding]
max_new_tokens = 40
[run]
device = "cpu"
output = "{root}/runs"
[[grid]]
backend = "quanto"
bits = [8, 4]
granularity = "per_channel"
[[grid]]
backend = "hqq"
bits = 4
granularity = "per_group:64"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("answers")
    speech(directory / "speech" / "clean", "clean", 2)
    return directory


@pytest.fixture
def run(root, monkeypatch, capsys):
    """Run the grid on models, and return its status and all that it said, without breaks of lines."""
    monkeypatch.setattr(estimate, "time_sentence", lambda *_: "soon")

    def call(*arguments, models=("embedded",)):
        path = root / "answers.toml"
        named = ", ".join(f'{{ path = "{model}", name = "model{i}" }}' for i, model in enumerate(models))
        path.write_text(EXPERIMENT.format(models=named, root=root))
        status = grid.main([str(path), *arguments])
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    return call


def test_a_dry_run_says_no_to_a_model_that_is_not_there(run, root):
    status, said = run("--dry-run", models=["embedded", f"{root}/nowhere"])
    assert (status, "there is no such directory" in said) == (0, True)
    assert run("--dry-run", models=[f"{root}/nowhere"])[0] == 2


def test_a_dry_run_says_no_to_a_processor_of_another_model(run, root):
    broken = linked(MODEL_DIRECTORY, root / "broken")
    edit_features(broken, feature_size=128)
    status, said = run("--dry-run", models=[broken])
    assert (status, "feature_size is 128" in said) == (2, True)


def test_a_dry_run_reads_tables(run, root):
    table = root / "speech" / "clean" / "metadata.csv"
    before = table.read_text()
    table.write_text(before + "more.wav,one, two, three\n")
    status, said = run("--dry-run")
    table.write_text(before)
    assert (status, "put a text that holds a comma in double quotes" in said) == (2, True)


def test_a_dry_run_says_no_to_cuda_without_a_gpu(run, monkeypatch):
    monkeypatch.setattr(preparation.shutil, "which", lambda _: None)
    status, said = run("--dry-run", "--set", 'run.device="cuda"')
    assert (status, "no NVIDIA driver answers" in said, "yes" in said) == (2, True, False)


def test_nothing_measured_is_no_success(run):
    status, said = run("--only", "backend=quanto", "--set", "grid.0.bits=3", "--set", 'name="nothing"')
    assert (status, "0 of 1 cell measured, full precision aside" in said) == (1, True)


def test_cells_of_other_settings_are_told(run):
    assert run("--only", "backend=hqq")[0] == 0
    status, said = run("--only", "backend=hqq", "--set", "decoding.max_new_tokens=41")
    assert status == 0
    assert "2 finished cells of other settings kept and not listed" in said
    assert 'another name (--set name="...")' in said
    assert "results.csv: 2 rows" in said


def test_the_legend_has_no_sign_that_no_row_has():
    row = {"status": "done", "non_inferior": False, "nll": None, "size_reduction_published": None}
    assert list(_legend([row])) == []
    assert [line.partition("  ")[0] for line in _legend([row, row | {"non_inferior": True, "nll": 0.5}])] == [
        "=",
        "NLL",
    ]
    assert list(_legend([row | {"status": "failed", "non_inferior": True}])) == []


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        ("bits=4,5", "write several values of a key with |, as in bits=4|3"),
        ("backend=hqqq", "backend is never hqqq; did you mean 'hqq'?"),
        ("bits=5", "bits is never 5; it is "),
        ("bit=4", "'bit' is not one of"),
    ],
)
def test_a_selection_that_means_nothing_is_helped(only, sentence, run):
    status, said = run("--only", only, "--list")
    assert (status, sentence in said) == (2, True), said


def test_the_limit_is_the_analysis_too(root, capsys):
    with pytest.raises(SystemExit) as ended:
        analyze.main(["--help"])
    assert ended.value.code == 0
    assert "--limit" in capsys.readouterr().out


def test_an_unknown_cell_is_answered_with_candidates(run, root, capsys):
    run("--only", "backend=hqq")
    assert compare.main([str(root / "runs" / "answers"), "hqq weight_only int4", "full"]) == 2
    said = capsys.readouterr().err
    assert "hqq weight_only int4 per_group:64 @ clean" in said


def test_a_directory_of_runs_names_them(run, root, capsys):
    run("--only", "backend=hqq")
    assert verify.main([str(root / "runs")]) == 2
    said = capsys.readouterr().err
    assert "neither a run nor a published one; run the experiment first" in said
    assert str(root / "runs" / "answers") in said


def test_transcribe_knows_directories_and_swapped_arguments(root, capsys):
    file = next((root / "speech" / "clean").glob("*.*g"))
    assert transcribe.main(["embedded", str(root / "speech")]) == 1
    assert "it is a directory; name the files in it" in capsys.readouterr().err
    assert transcribe.main([str(file), str(MODEL_DIRECTORY)]) == 2
    assert "it is a file; name the directory of the model first" in capsys.readouterr().err


def test_a_save_does_not_overwrite(tmp_path):
    model = load_recognizer(MODEL_DIRECTORY, "float32", "cpu").model
    quantized = quantize(model, "weight_only", "per_channel", 8, backend="reference")
    quantized.save(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    with pytest.raises(CheckpointError, match="there is something already; name a new directory"):
        quantized.save(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert len(repr(quantized)) < 200
    assert repr(load(tmp_path / "saved")) == repr(quantized)


def test_inspecting_nothing_says_so(tmp_path, capsys):
    assert backends_command.main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "there is no such directory" in capsys.readouterr().err


def test_the_command_line_names_its_own_flags():
    said = backends_command._as_flags('OpenVINO cannot convert the decoder: say so with parts = ["encoder"]')
    assert said.endswith("say so with --parts encoder")


def test_a_method_of_ours_is_pointed_to():
    answer = capability(QuantSpec(Scheme.WEIGHT_ONLY, PerGroup(64), 4, method="gptq"), "hqq")
    assert 'backend = "ptq" has the method gptq' in answer.reason
