"""Drafts change how long a cell takes and nothing else."""

import pandas
import pytest

from backends import QuantSpec, parse_granularity, resolve, row_independent
from backends.core.codes import Activations
from harness.grid import main
from harness.recognition.strategy import Strategy

EXPERIMENT = """
name = "drafts"
model = "embedded"
[[data]]
dataset = "embedded"
split = "other"
limit = 18
[decoding]
batch_size = 6
max_new_tokens = 60
strategy = "{strategy}"
[run]
device = "cpu"
workers = 1
[[grid]]
backend = "ptq"
bits = [4, 2]
granularity = "per_group:64"
method = "rtn"
options.ptq.clip = true
[[grid]]
backend = "quanto"
bits = 8
modules = ["linear", "head"]
[[grid]]
backend = "torch_dynamic"
scheme = "dynamic"
bits = 8
[[grid]]
backend = "cast"
scheme = "none"
granularity = "per_tensor"
bits = 16
format = "bf16"
"""


def run(strategy, directory):
    path = directory / f"{strategy}.toml"
    path.write_text(EXPERIMENT.format(strategy=strategy))
    assert main([str(path), "--out", str(directory / strategy)]) == 0
    return directory / strategy / "drafts"


def utterances(run, cell):
    return pandas.read_parquet(run / "cells" / cell / "utterances.parquet")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("strategies")
    return {strategy: run(strategy, directory) for strategy in ("plain", "draft", "auto")}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["draft", "auto"])
def test_the_same_cells_say_the_same(strategy, runs):
    plain, other = (pandas.read_parquet(runs[s] / "results.parquet") for s in ("plain", strategy))
    assert list(plain["cell_id"]) == list(other["cell_id"])
    assert (plain["drafted"] == 0).all()
    for column in ("nll", "macs_per_audio_second", "decoder_step_bops", "self_attention_cache_bytes"):
        assert plain[column].tolist() == pytest.approx(other[column].tolist(), rel=1e-5), column
    for cell in plain["cell_id"]:
        one, two = (utterances(runs[s], cell) for s in ("plain", strategy))
        assert list(one["hypothesis"]) == list(two["hypothesis"])
        assert [list(tokens) for tokens in one["tokens"]] == [list(tokens) for tokens in two["tokens"]]


@pytest.mark.slow
def test_drafts_are_used_where_they_are_exact(runs):
    frame = pandas.read_parquet(runs["draft"] / "results.parquet").set_index("backend")
    assert (frame.loc[["ptq", "quanto"], "drafted"] == 1).all()
    assert frame.loc[["ptq", "quanto"], "rtfx"].isna().all()
    assert (frame.loc[["none", "torch_dynamic", "cast"], "drafted"] == 0).all()
    assert (frame.loc[["none", "torch_dynamic", "cast"], "rtfx"] > 0).all()


def test_auto_begins_with_drafts(runs):
    frame = pandas.read_parquet(runs["auto"] / "results.parquet").set_index("backend")
    assert (frame.loc[["ptq", "quanto"], "drafted"].round(2) >= 0.33).all()


def test_the_choice():
    auto = Strategy("auto")
    assert (auto.way(possible=True), auto.lacks_pace) == ("draft", True)
    auto.paced(0.1)
    auto.took("draft", 2.0, 40)
    assert (auto.way(possible=True), auto.lacks_pace) == ("draft", False)
    auto.took("draft", 5.5, 40)
    assert auto.way(possible=True) == "draft", "both together cost 7.5 s, and plain decoding 8"
    auto.took("draft", 5.0, 40)
    assert auto.way(possible=True) == "plain"
    auto.took("plain", 1.0, 40)
    assert auto.way(possible=True) == "plain"
    assert auto.way(possible=False) == "plain"
    assert (Strategy("plain").way(possible=True), Strategy("draft").lacks_pace) == ("plain", False)
    assert Strategy("draft").way(possible=True) == "draft"
    assert Strategy("draft").way(possible=False) == "plain"


@pytest.mark.parametrize(
    ("backend", "scheme", "bits", "activations", "options", "expected"),
    [
        ("hqq", "weight_only", 4, None, {}, True),
        ("torch_dynamic", "dynamic", 8, None, {}, False),
        ("torch_static", "static", 8, None, {}, True),
        ("bitsandbytes", "dynamic", 8, None, {"threshold": 6.0}, False),
        ("bitsandbytes", "dynamic", 8, None, {"threshold": 0.0}, True),
        ("torchao", "dynamic", 8, None, {}, True),
        ("torchao", "dynamic", 8, Activations(8, granularity="per_tensor"), {}, False),
        ("ptq", "dynamic", 8, Activations(8, granularity="per_token"), {}, True),
        ("ptq", "dynamic", 8, Activations(8, granularity="per_tensor"), {}, False),
    ],
)
def test_who_is_row_independent(backend, scheme, bits, activations, options, expected):
    granularity = "per_group:64" if backend == "hqq" else "per_channel"
    spec, _ = resolve(
        QuantSpec(scheme, parse_granularity(granularity), bits, activations=activations), backend, options
    )
    assert row_independent(spec, backend, options) is expected
