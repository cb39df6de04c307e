"""Encoder states that configurations share: the same hypotheses bit for bit, fewer passes, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from backends import quantize
from backends.core.fingerprint import fingerprint
from backends.testing import small_whisper
from harness import grid
from harness.recognition.encoder_states import EncoderStates
from harness.records.layout import ENCODER_STATES
from harness.records.reading import open_run

EXPERIMENT = """
name = "{name}"
model = "{model}"
data = [{{ dataset = "embedded", split = "clean", limit = 6 }}]
decoding = {{ batch_size = 3, max_new_tokens = 40, tokens_per_second = {rate} }}
run = {{ device = "cpu" }}
[[grid]]
backend = "quanto"
bits = 8
modules = [["linear"], ["linear", "head"]]
[[grid]]
backend = "hqq"
granularity = "per_group:32"
bits = 4
parts = [["decoder"], ["encoder", "decoder"], ["encoder"]]
"""


def run(tmp_path, model, shared):
    path = tmp_path / f"{shared}.toml"
    rate = "20.0" if model == "embedded-moonshine" else "225.0"
    text = EXPERIMENT.format(name=f"shared{shared}", model=model, rate=rate)
    path.write_text(text if model == "embedded-moonshine" else text.replace(", tokens_per_second = 225.0", ""))
    gigabytes = "4.0" if shared else "0.0"
    assert grid.main([str(path), "--out", str(tmp_path), "--set", f"run.encoder_cache_gb={gigabytes}"]) == 0
    return open_run(tmp_path / f"shared{shared}")


@pytest.mark.parametrize("model", ["embedded", pytest.param("embedded-moonshine", marks=pytest.mark.slow)])
def test_hypotheses_are_equal_bit_for_bit_with_fewer_passes(tmp_path, model):
    apart, shared = (run(tmp_path, model, shared) for shared in (False, True))
    before, after = ({row["cell_id"]: row for row in one.results()} for one in (apart, shared))
    assert before.keys() == after.keys()
    for cell_id, row in before.items():
        own, theirs = (
            [(u["tokens"], u["reference_nll"], u["reference_divergence"]) for u in one.utterances(cell_id)]
            for one in (apart, shared)
        )
        assert own == theirs, row["configuration"]
        assert row["encoder_passes"] == 6
    passes = sum(row["encoder_passes"] for row in after.values())
    assert passes == 6 * 3  # untouched, and one for each library
    assert all(row["rtfx"] is None for row in after.values() if row["encoder_passes"] < 6)
    assert not (shared.path / ENCODER_STATES).exists()


def quantized(backend="quanto", bits=8, **changes):
    settings = {"scheme": "weight_only", "granularity": "per_channel", **changes}
    scheme, granularity = settings.pop("scheme"), settings.pop("granularity")
    return quantize(small_whisper(), scheme, granularity, bits, backend=backend, **settings)


def printed(found):
    return fingerprint(found, found.model.get_encoder())


def test_what_the_encoder_computes_decides_its_fingerprint():
    own = printed(quantized())
    assert own == printed(quantized(modules=["linear", "head"]))
    untouched = {printed(quantized(parts=["decoder"])), printed(quantized("hqq", parts=["decoder"]))}
    assert len(untouched) == 1
    others = [
        quantized("reference"),
        quantized(bits=4),
        quantized("ptq", granularity="per_group:32", bits=4, method="rtn"),
        quantized("ptq", granularity="per_group:32", bits=4, method="rtn", scheme="dynamic"),
    ]
    assert len({own, *untouched, *map(printed, others)}) == 2 + len(others)


def test_another_weight_is_another_fingerprint():
    found = quantized(parts=["decoder"])
    before = printed(found)
    found.model.get_encoder().conv1.bias.data[0] += 1
    assert printed(found) != before


CPU = torch.device("cpu")


def output(*shape):
    return BaseModelOutput(last_hidden_state=torch.randn(*shape))


@pytest.fixture
def states(tmp_path):
    return partial(EncoderStates, tmp_path, "group", limit=10**6)


def test_states_are_computed_once_and_mapped(states):
    own = output(2, 3, 4)
    kept, read = states("a", wanted=lambda: True).of("batch", lambda: own, CPU)
    assert (kept, read) == (own, False)
    again, read = states("a", wanted=lambda: True).of("batch", lambda: pytest.fail("they are there"), CPU)
    assert (torch.equal(again.last_hidden_state, own.last_hidden_state), type(again), read) == (True, type(own), True)
    elsewhere, _ = states("a", wanted=lambda: True).of("batch", lambda: own, torch.device("meta"))
    assert elsewhere.last_hidden_state.device.type == "meta"
    assert states("b", wanted=lambda: True).of("batch", lambda: own, CPU)[1] is False


def test_nothing_is_kept_that_nobody_wants_or_that_has_no_room(states, tmp_path):
    states("a", wanted=lambda: False).of("batch", lambda: output(2), CPU)
    assert not (tmp_path / ENCODER_STATES).exists()
    EncoderStates(tmp_path, "group", "a", 7, lambda: True).of("batch", lambda: output(2), CPU)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_they_go_with_the_last_who_wants_them(states, tmp_path):
    states("a", wanted=lambda: True).of("batch", lambda: output(2), CPU)
    states("a", wanted=lambda: True).remove()
    assert list(tmp_path.rglob("*.safetensors"))
    states("a", wanted=lambda: False).remove()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_killed_run_leaves_none_after_the_next(tmp_path):
    path = tmp_path / "killed.toml"
    path.write_text(
        EXPERIMENT.format(name="killed", model="embedded", rate="20.0").replace(", tokens_per_second = 20.0", "")
    )
    command = [sys.executable, "-m", "harness.grid", str(path), "--out", str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    directory = tmp_path / "killed" / ENCODER_STATES
    deadline = time.monotonic() + 120
    while not list(directory.glob("*/*.safetensors")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(directory.glob("*/*"))
    assert grid.main([str(path), "--out", str(tmp_path)]) == 0
    assert not directory.exists()
