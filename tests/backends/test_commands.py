"""`python -m backends`: what is possible, quantize a checkpoint, look into what was saved."""

import json
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from backends import Supported, load, quantize
from backends.__main__ import main, matrix
from backends.core.base import missing_package
from backends.core.registry import get
from backends.testing import answers, small_inputs, small_whisper


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    small_whisper().save_pretrained(directory)
    return directory


def test_it_does_what_the_call_does(checkpoint, tmp_path, capsys):
    asked = ["--backend", "hqq", "--bits", "3", "--granularity", "per_group:32", "--modules", "linear+head"]
    asked += ["--parts", "decoder", "--option", "axis=0"]
    assert main(["quantize", str(checkpoint), str(tmp_path / "out"), *asked]) == 0
    chosen = {"modules": ["linear", "head"], "parts": ["decoder"], "options": {"axis": 0}}
    expected = quantize(small_whisper(), "weight_only", "per_group:32", 3, backend="hqq", **chosen)
    loaded = load(tmp_path / "out")
    for ours, theirs in zip(*(answers(q.model, small_inputs()) for q in (loaded, expected)), strict=True):
        assert torch.equal(ours, theirs)
    assert f"{expected.report.size_reduction:.1%} less" in capsys.readouterr().out


def test_inspect_names_every_layer(checkpoint, tmp_path, capsys):
    main(["quantize", str(checkpoint), str(tmp_path / "out"), "--backend", "quanto", "--bits", "8"])
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out")]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for layer in load(tmp_path / "out").report.layers:
        assert all(piece in shown for piece in layer.name.split("."))
    assert "int8per_channelsymmetric" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["quantize", "{none}", "{out}", "--backend", "hqq", "--bits", "4"], "no such directory"),
        (["quantize", "{checkpoint}", "{out}", "--backend", "hqq", "--bits", "7"], "hqq: "),
        (["quantize", "{checkpoint}", "{out}", "--backend", "hqqq", "--bits", "4"], "unknown backend 'hqqq'"),
        (["quantize", "{checkpoint}", "{out}", "--backend", "hqq", "--bits", "4", "--modules", "liner"], "'liner'"),
        (["quantize", "{checkpoint}", "{out}", "--backend", "hqq", "--bits", "4", "--parts", "middle"], "'middle'"),
        (["quantize", "{checkpoint}", "{out}", "--backend", "hqq", "--bits", "4", "--option", "axis"], "KEY=VALUE"),
        (["quantize", "{checkpoint}", "{out}", "--backend", "hqq", "--bits", "4", "--option", "axes=1"], "axes"),
        (
            ["quantize", "{checkpoint}", "{out}", "--backend", "torch_static", "--scheme", "static", "--bits", "8"],
            "calibration",
        ),
        (["quantize", "{checkpoint}", "{checkpoint}", "--backend", "hqq", "--bits", "4"], "name a new directory"),
        (["inspect", "{checkpoint}"], "quantization.json"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, checkpoint, tmp_path, capsys):
    names = {"none": tmp_path / "none", "out": tmp_path / "out", "checkpoint": checkpoint}
    assert main([argument.format(**names) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_whose_weights_do_not_fit_is_refused(change, checkpoint, tmp_path, capsys):
    broken, name = shutil.copytree(checkpoint, tmp_path / "broken"), "model.encoder.layers.0.fc1.weight"
    weights = load_file(broken / "model.safetensors")
    fc1 = weights.pop(name)
    save_file(weights | ({name: fc1[1:].contiguous()} if change == "shape" else {}), broken / "model.safetensors")
    assert main(["quantize", str(broken), str(tmp_path / "out"), "--backend", "hqq", "--bits", "4"]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_files():
    """No file of more than 100 kB can be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing(checkpoint, tmp_path, small_files, capsys):
    assert main(["quantize", str(checkpoint), str(tmp_path / "out"), "--backend", "hqq", "--bits", "4"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be written" in said
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_a_file_stays(checkpoint, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert main(["quantize", str(checkpoint), str(tmp_path / "out"), "--backend", "hqq", "--bits", "4"]) == 2
    assert "name another directory" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_options_stand_after_the_command():
    with pytest.raises(SystemExit, match="2"):
        main(["--backend", "quanto", "inspect", "somewhere"])


@pytest.mark.parametrize(
    ("backend", "where"),
    [("openvino", "encoder"), ("ctranslate2", "conv+embedding+head+linear"), ("ggml", "linear+tied")],
)
def test_the_table_knows_engines_that_do_a_part_or_the_whole(backend, where):
    if missing := missing_package(get(backend)):
        pytest.skip(missing.reason)
    notes = [
        answer.note for *_, bits, answer in matrix(backend, "cpu") if isinstance(answer, Supported) and bits == "8"
    ]
    assert notes
    assert all(note.startswith(where) for note in notes)


def test_a_checkpoint_that_wants_its_own_code_is_refused(checkpoint, tmp_path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "mine", "architectures": ["Mine"], "auto_map": {"AutoConfig": "mine.MyConfig"}}
    (own / "config.json").write_text(json.dumps(config))
    (own / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert main(["quantize", str(own), str(tmp_path / "out"), "--backend", "hqq", "--bits", "4"]) == 2
    assert not (tmp_path / "ran").exists()


def test_nothing_else_is_said(checkpoint, tmp_path):
    command = [sys.executable, "-m", "backends", "quantize", str(checkpoint), str(tmp_path / "out")]
    done = subprocess.run([*command, "--backend", "quanto", "--bits", "8"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
