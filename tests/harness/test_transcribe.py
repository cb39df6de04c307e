"""`python -m harness.transcribe`: a line for every file, by a checkpoint or a saved quantized model."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from backends import __main__ as backends
from harness import datasets
from harness.config import Data
from harness.embedded import MODEL_DIRECTORY
from harness.metrics import Normaliser
from harness.transcribe import main


@pytest.fixture(scope="module")
def speech():
    """Three recordings that the embedded model hears without an error."""
    utterances = datasets.get("embedded").load(Data(dataset="embedded", split="clean")).utterances
    return [u for u in utterances if len(u.text.split()) > 3][:3]


@pytest.mark.parametrize("quantized", [False, True])
def test_it_hears_what_was_said(quantized, speech, tmp_path, capsys):
    model = "embedded"
    if quantized:
        model = str(tmp_path / "int8")
        assert backends.main(["quantize", str(MODEL_DIRECTORY), model, "--backend", "quanto", "--bits", "8"]) == 0
        capsys.readouterr()
    assert main([model, *(str(u.audio) for u in speech), "--batch-size", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == [str(u.audio) for u in speech]
    clean = Normaliser()
    assert [clean(line.partition("\t")[2]) for line in lines] == [clean(u.text) for u in speech]


def test_files_that_cannot_be_heard_cost_only_themselves(speech, tmp_path, capsys):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    files = [broken, tmp_path / "none.wav", tmp_path / "nan.wav", speech[0].audio]
    assert main(["embedded", *map(str, files)]) == 1
    output, errors = capsys.readouterr()
    assert [line.partition("\t")[0] for line in output.splitlines()] == [str(speech[0].audio)]
    assert [name in line for name, line in zip(("broken", "none", "nan"), errors.splitlines(), strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(("model", "sentence"), [("{}/none", "no such directory"), ("{}", "config.json")])
def test_a_mistake_is_one_sentence(model, sentence, tmp_path, capsys):
    assert main([model.format(tmp_path), "speech.wav"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_nothing_else_is_said(speech):
    command = [sys.executable, "-m", "harness.transcribe", "embedded", str(speech[0].audio)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
