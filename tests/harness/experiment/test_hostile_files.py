"""Experiment files that are broken: any of them is accepted or one sentence."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import grid
from harness.embedded import MODEL_DIRECTORY
from harness.errors import AsrQuantError
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations

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
