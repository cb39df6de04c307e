"""`python -m harness.transcribe`: a line for every file, by a checkpoint or a saved quantized model."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from backends import __main__ as backends
from harness import datasets
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Data
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


def test_a_transcript_does_not_depend_on_the_others(speech, tmp_path, capsys):
    soundfile.write(tmp_path / "silence.wav", np.zeros(160_000), 16_000)
    alone, beside = str(speech[0].audio), str(tmp_path / "silence.wav")
    said = []
    for files in ([alone], [alone, beside], [beside, alone, alone]):
        assert main(["embedded-moonshine", *files]) == 0
        said.append([line for line in capsys.readouterr().out.splitlines() if line.startswith(alone)])
    assert said == [said[0], said[0], said[0] * 2]


def test_what_is_cut_is_said(speech, tmp_path, capsys):
    soundfile.write(tmp_path / "long.wav", np.zeros(16_000 * 40), 16_000)
    assert main(["embedded", str(speech[0].audio), str(tmp_path / "long.wav")]) == 0
    _, errors = capsys.readouterr()
    assert (
        errors == f"{tmp_path}/long.wav: only the beginning is transcribed; --long-audio sequential transcribes all\n"
    )


def test_a_line_break_in_a_name_is_no_line(speech, tmp_path, capsys):
    odd = tmp_path / "a\nb.ogg"
    odd.write_bytes(speech[0].audio.read_bytes())
    assert main(["embedded", str(odd)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/a\\nb.ogg\t")


def test_a_checkpoint_without_a_tokenizer_is_refused(speech, tmp_path, capsys):
    model = shutil.copytree(MODEL_DIRECTORY, tmp_path / "model")
    (model / "tokenizer.json").unlink()
    assert main([str(model), str(speech[0].audio)]) == 2
    assert "there is no tokenizer (tokenizer.json" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(speech, capsys):
    assert main(["embedded", str(speech[0].audio), "--device", "cuda"]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_more_tokens_than_the_model_has_places_for(speech, capsys):
    assert main(["embedded", str(speech[0].audio), "--max-new-tokens", "100000"]) == 2
    assert "--max-new-tokens 100000: this model has room for" in capsys.readouterr().err


def test_nothing_else_is_said_and_who_reads_no_further_is_no_mistake(speech):
    files = " ".join(str(utterance.audio) for utterance in speech)
    command = f"{sys.executable} -m harness.transcribe embedded {files} --batch-size 1 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, ""), "it came to writing"


@pytest.mark.parametrize(("model", "sentence"), [("{}/none", "no such directory"), ("{}", "config.json")])
def test_a_mistake_is_one_sentence(model, sentence, tmp_path, capsys):
    assert main([model.format(tmp_path), "speech.wav"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
