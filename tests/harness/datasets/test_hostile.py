"""Checkpoints, experiment files and speech from people who mean harm, or whose disks do."""

import json
import math
import os
import pickle
import shutil

import numpy as np
import pandas
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import CheckpointError, load, quantize
from harness import compare, grid
from harness.datasets import Utterance
from harness.embedded import MODEL_DIRECTORY
from harness.errors import AsrQuantError, DataError
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.recognition.loading import load_recognizer
from tests.harness.checkpoints import save_moonshine

EXPERIMENT = """
name = "hostile"
model = {model}
data = [{data}]
decoding = {{ batch_size = 4, max_new_tokens = 12 }}
run = {{ device = "cpu", workers = 1 }}
[[grid]]
backend = "quanto"
bits = 8
"""
EMBEDDED = '{ dataset = "embedded", split = "clean", limit = 2 }'


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it-ran"


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(MODEL_DIRECTORY, tmp_path / "model")


def run(tmp_path, model, data=EMBEDDED):
    path = tmp_path / "hostile.toml"
    path.write_text(EXPERIMENT.format(model=json.dumps(str(model)), data=data))
    return grid.main([str(path), "--out", str(tmp_path)])


def test_the_payload_works(marker):
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "training_args.bin"])
def test_a_pickle_in_a_checkpoint_does_not_run(tmp_path, model, marker, capsys, name):
    (model / name).write_bytes(pickle.dumps(Payload(marker)))
    if name == "pytorch_model.bin":
        (model / "model.safetensors").unlink()
    status = run(tmp_path, model)
    assert not marker.exists()
    if name == "pytorch_model.bin":
        assert status == 2
        assert "no weights in safetensors; convert the checkpoint first" in capsys.readouterr().err
    elif name == "model.safetensors":
        assert status == 2
        assert "cannot be read as safetensors" in capsys.readouterr().err
    else:
        rows = pandas.read_parquet(tmp_path / "hostile" / "results.parquet")
        assert set(rows["status"]) == {"done"}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, model, marker, name):
    (model / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    path = model / name
    content = json.loads(path.read_text()) if path.is_file() else {}
    names = ("AutoConfig", "AutoModelForSpeechSeq2Seq", "AutoProcessor", "AutoFeatureExtractor")
    content["auto_map"] = {**dict.fromkeys(names, "evil.Evil"), "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    content.pop("model_type", None)
    path.write_text(json.dumps(content))
    assert run(tmp_path, model) in (0, 2)
    assert not marker.exists()


def test_a_pickle_in_a_saved_quantized_model_does_not_run(tmp_path, marker):
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    quantize(recognizer.model, "weight_only", "per_channel", 8, backend="reference").save(tmp_path / "saved")
    (tmp_path / "saved" / "quantized.safetensors").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(CheckpointError, match=r"quantized\.safetensors: incomplete or altered"):
        load(tmp_path / "saved")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/b", "..", ".", "", "a\x00b", "a\nb", "C:\\x", "-x", "x" * 200])
def test_names_stay_in_the_output_directory(tmp_path, name):
    path = tmp_path / "x.toml"
    path.write_text(EXPERIMENT.format(model='"embedded"', data=EMBEDDED))
    with pytest.raises(AsrQuantError, match="name"):
        load_experiment(path, [f"name={json.dumps(name)}"])


@pytest.mark.parametrize("where", ["description", "model.0.path", "data.0.name", "run.output"])
def test_text_that_steers_a_terminal_is_refused(tmp_path, where):
    path = tmp_path / "x.toml"
    path.write_text(EXPERIMENT.format(model='[{ path = "embedded" }]', data=EMBEDDED))
    with pytest.raises(AsrQuantError, match="control characters are not allowed") as raised:
        load_experiment(path, [f'{where}="\\u001b[2J"'])
    assert "\x1b" not in str(raised.value)


def test_transcripts_do_not_steer_a_terminal(tmp_path, capsys):
    for name, heard in (("ref", "the cat"), ("a", "\x1b[2J\x1b]0;owned\x07 cat"), ("b", "\u202ethe bat")):
        (tmp_path / name).write_text(f"u1\t{heard}\nu2\tthe dog\n")
    arguments = ["--ref", *(str(tmp_path / name) for name in ("ref", "a", "b"))]
    assert compare.main(arguments) == 0
    said = capsys.readouterr().out
    assert "\\x1b[2J" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


SAMPLES = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def encoded(path, samples=SAMPLES, rate=16_000, **settings):
    soundfile.write(path, samples, rate, **settings)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:9000])
    return path


def text(path):
    path.write_text("speech " * 2000)
    return path


def not_numbers(path, value):
    samples = SAMPLES.copy()
    samples[7] = value
    return encoded(path, samples, subtype="FLOAT")


def made_of(path, head):
    path.write_bytes(head + bytes(5000))
    return path


def piped(path, samples, behind=b""):
    """A WAV whose header says that it has no samples."""
    head = bytearray(encoded(path).read_bytes()[:44])
    head[4:8] = head[40:44] = bytes(4)
    path.write_bytes(bytes(head) + samples + behind)
    return path


UNHEARD = {
    "cut.flac": (lambda path: cut(encoded(path)), "cannot be decoded"),
    "empty.wav": (lambda path: encoded(path, SAMPLES[:0]), "the audio is empty"),
    "nothing.wav": (lambda path: path.touch() or path, "cannot be decoded"),
    "text.wav": (text, "cannot be decoded"),
    "nan.wav": (lambda path: not_numbers(path, math.nan), "are not numbers"),
    "infinite.wav": (lambda path: not_numbers(path, math.inf), "are not numbers"),
    "opposite.wav": (lambda path: encoded(path, np.stack([SAMPLES, -SAMPLES], 1)), "channels cancel out"),
    "speech.m4a": (lambda path: made_of(path, b"\0\0\0 ftypM4A "), "WAV, FLAC, OGG, MP3 and AIFF are read"),
    "speech.webm": (lambda path: made_of(path, b"\x1aE\xdf\xa3\x9fB\x86\x81"), "WAV, FLAC, OGG, MP3 and AIFF are read"),
    "silent_chunk.wav": (lambda path: piped(path, b"", b"LIST\4\0\0\0INFO"), "the audio is empty"),
    "raw.raw": (lambda path: path.write_bytes(SAMPLES.tobytes()) and path, "cannot be decoded"),
}
HEARD = {
    "eight.wav": (lambda path: encoded(path, np.stack([SAMPLES] * 8, 1), 48_000), 16_000 / 3),
    "fast.wav": (lambda path: encoded(path, SAMPLES, 192_000), 16_000 / 12),
    "short.wav": (lambda path: encoded(path, SAMPLES[:160]), 160),
    "really_flac.txt": (lambda path: encoded(path, format="FLAC"), 16_000),
    "cut.wav": (lambda path: cut(encoded(path)), (9000 - 44) / 2),
    "piped.wav": (lambda path: piped(path, encoded(path).read_bytes()[44:]), 16_000),
    "one_channel.wav": (lambda path: encoded(path, np.stack([SAMPLES, 0 * SAMPLES], 1)), 16_000),
}


@pytest.mark.parametrize("name", UNHEARD)
def test_what_cannot_be_heard_is_one_sentence(tmp_path, name):
    make, reason = UNHEARD[name]
    utterance = Utterance("u", "s", "text", make(tmp_path / name))
    with pytest.raises(DataError, match=reason) as raised:
        utterance.waveform()
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", HEARD)
def test_what_can_be_heard_is(tmp_path, name):
    make, samples = HEARD[name]
    waveform = Utterance("u", "s", "text", make(tmp_path / name)).waveform()
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(samples, abs=1)
    assert np.isfinite(waveform).all()


def test_pieces_are_resampled_as_one(tmp_path):
    import soxr

    samples = np.random.default_rng(1).standard_normal(900_000).astype(np.float32)
    waveform = Utterance("u", "s", "", encoded(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")).waveform()
    assert np.abs(waveform - soxr.resample(samples, 44_100, 16_000)).max() < 1e-4


@pytest.mark.parametrize("architecture", ["whisper", "moonshine"])
def test_bad_recordings_cost_their_own_rows(tmp_path, architecture):
    folder = tmp_path / "speech"
    folder.mkdir()
    made = [(name, make) for name, (make, _) in {**UNHEARD, **HEARD}.items()]
    for name, make in [*made, ("good.wav", encoded), ("long.flac", lambda p: encoded(p, np.tile(SAMPLES, 130)))]:
        make(folder / name)
    names = sorted(path.name for path in folder.iterdir())
    pandas.DataFrame({"file_name": names, "text": "some words"}).to_csv(folder / "metadata.csv", index=False)
    model = "embedded" if architecture == "whisper" else save_moonshine(tmp_path / "model")
    data = f'{{ dataset = "folder", root = "{folder}" }}'
    assert run(tmp_path, model, data) == 0
    rows = pandas.read_parquet(tmp_path / "hostile" / "results.parquet")
    assert set(rows["status"]) == {"done"}
    unheard = {*UNHEARD, *(["long.flac"] if architecture == "moonshine" else [])}
    assert set(rows["utterances"]) == {len(names) - len(unheard)}
    assert set(rows["reference_words"]) == {2 * (len(names) - len(unheard))}
    assert rows["reason"].str.contains(f"{len(unheard)} of {len(names)} utterances could not be decoded, such as").all()
    cell = tmp_path / "hostile" / "cells" / rows["cell_id"][0]
    utterances = pandas.read_parquet(cell / "utterances.parquet").set_index("id")
    assert set(utterances[utterances["error"].notna()].index) == unheard


def test_nothing_to_be_heard_is_said(tmp_path):
    folder = tmp_path / "speech"
    folder.mkdir()
    text(folder / "a.wav")
    pandas.DataFrame({"file_name": ["a.wav"], "text": "some words"}).to_csv(folder / "metadata.csv", index=False)
    assert run(tmp_path, "embedded", f'{{ dataset = "folder", root = "{folder}" }}') == 1
    rows = pandas.read_parquet(tmp_path / "hostile" / "results.parquet")
    assert rows["reason"].str.contains("not one utterance can be decoded").all()


WHOLE = (MODEL_DIRECTORY.parents[2] / "experiments" / "embedded.toml").read_text()
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.one_of(st.integers(-3, 40), st.text(max_size=5)), max_size=4),
    st.sampled_from(["auto", "cpu", "cuda", "quanto", "per_group:64", "per_group:-1", "per_group:", "mixed", "static"]),
    st.dictionaries(st.sampled_from(["data", "bits", "quanto", "path", "x"]), st.integers(), max_size=2),
)
KEYS = st.sampled_from(
    "name model data decoding.batch_size decoding.strategy decoding.num_beams calibration.utterances calibration.seed "
    "calibration.noise_db calibration.data run.workers run.device run.stall_timeout run.lease_timeout run.seed grid "
    "grid.0.backend grid.0.bits grid.0.granularity grid.0.scheme grid.0.options grid.0.options.quanto.x grid.0.format "
    "grid.0.activations grid.0.activations.bits grid.0.modules grid.0.parts grid.0.models grid.9 model.0.dtype "
    "data.0.limit data.0.dataset data.0.split published published.0.wer description decoding..x . x y.z".split()
)


def literal(value):
    """A value as TOML writes it, or as somebody might think it does."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {literal(own)}" for key, own in value.items()) + "}"
    return json.dumps(value)


def outcome(path, overrides=()):
    """The sentence of a refused experiment, or nothing; anything else is a failure."""
    try:
        configurations(load_experiment(path, overrides))
    except AsrQuantError as error:
        return str(error)
    return None


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=KEYS, value=VALUES)
def test_any_value_of_any_key_is_accepted_or_one_sentence(tmp_path, key, value):
    path = tmp_path / "whole.toml"
    if not path.exists():
        path.write_text(WHOLE)
    said = outcome(path, [f"{key}={literal(value)}"])
    assert said is None or (said and "\n" not in said and "\x1b" not in said)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.floats(0, 1), length=st.integers(0, 60), new=st.binary(max_size=20))
def test_any_broken_file_is_accepted_or_one_sentence(tmp_path, start, length, new):
    content = WHOLE.encode()
    place = int(start * len(content))
    path = tmp_path / "broken.toml"
    path.write_bytes(content[:place] + new + content[place + length :])
    said = outcome(path)
    assert said is None or ((said.startswith(str(path)) or "grid" in said or "data" in said) and "\n" not in said)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"name = ", b"[[grid]]", b"a" * 10_000, b"x=" + b"[" * 3000])
def test_a_broken_file_ends_with_status_two(tmp_path, capsys, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    assert grid.main([str(path), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_no_experiment(tmp_path, capsys):
    assert grid.main([str(tmp_path), "--dry-run"]) == 2
    assert "it is a directory" in capsys.readouterr().err
