"""Counted operations against calculations by hand: MACs, BOPs, bytes, caches, and what a second of audio costs."""

import shutil
from collections.abc import Mapping
from dataclasses import replace

import pandas
import pytest
import torch
from transformers import MoonshineConfig, WhisperConfig

from backends import (
    FULL_PRECISION,
    Activations,
    LayerReport,
    ModuleKind,
    NumberFormat,
    PerChannel,
    PerTensor,
    QuantSpec,
    Scheme,
    Supported,
    quantize,
)
from harness.cost.counting import LayerCount, LayerKind, Phase, count, count_step
from harness.cost.operations import (
    Prices,
    Transcriptions,
    cell_columns,
    decoder_prompt,
    generated,
    operation_rows,
    total,
)
from harness.experiment.cell import Configuration
from harness.experiment.tables import Model
from harness.grid import main
from harness.records.layout import CellRecord
from harness.records.recording import RunDirectory
from harness.records.results import MEASURED
from tests.conftest import build_whisper

WIDTH, FFN, LAYERS, FRAMES, WINDOW, MELS, TOKENS = 768, 3072, 12, 3000, 1500, 80, 51865
"""whisper-small."""
PROMPT = 4
FLOAT = Prices({}, None, 32)


@pytest.fixture(scope="module")
def small() -> Mapping[Phase, list[LayerCount]]:
    return count(whisper_small(), torch.zeros(1, MELS, FRAMES), PROMPT)


def whisper_small(**changes):
    heads = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    shape = {"encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_ffn_dim": FFN, "decoder_ffn_dim": FFN}
    return WhisperConfig(d_model=WIDTH, vocab_size=TOKENS, **heads, **shape, **changes)


def of_kind(layers, kind):
    return [layer for layer in layers if layer.kind is kind]


# By hand. A linear layer on n rows: n x in x out MACs; attention of q queries on k keys: 2 x q x k x width.
PROJECTIONS, MLP = WIDTH * WIDTH, WIDTH * FFN
CONVOLUTIONS = FRAMES * MELS * WIDTH * 3 + WINDOW * WIDTH * WIDTH * 3
ENCODER_MACS = CONVOLUTIONS + LAYERS * (WINDOW * (4 * PROJECTIONS + 2 * MLP) + 2 * WINDOW * WINDOW * WIDTH)
DECODER_WEIGHTS = LAYERS * (6 * PROJECTIONS + 2 * MLP)  # 4 of self-attention, 2 of cross-attention a token
CROSS_KEYS_AND_VALUES = LAYERS * WINDOW * 2 * PROJECTIONS  # once an utterance


def step_macs(tokens, position):
    """Of `tokens` at once, after `position`."""
    attended = tokens * 2 * WIDTH * (position + tokens + WINDOW)
    return tokens * (DECODER_WEIGHTS + WIDTH * TOKENS) + LAYERS * attended


def test_whisper_small_macs_by_hand(small):
    zero = total(operation_rows(small, FLOAT), Phase.STEP)
    slope = total(operation_rows(small, FLOAT), Phase.STEP_SLOPE)
    assert sum(layer.macs for layer in small[Phase.ENCODER]) == ENCODER_MACS == 172_081_152_000
    assert sum(layer.macs for layer in small[Phase.PREFILL]) == step_macs(PROMPT, 0) + CROSS_KEYS_AND_VALUES
    assert zero.macs == step_macs(1, 0) == 166_589_184
    assert slope.macs == LAYERS * 2 * WIDTH


def test_whisper_small_in_fp32_has_bops_of_32_by_32(small):
    rows = operation_rows(small, FLOAT)
    assert total(rows, Phase.ENCODER).bops == 1024 * ENCODER_MACS
    assert total(rows, Phase.STEP).bops == 1024 * step_macs(1, 0)
    assert all(row["bops"] == 1024 * row["macs"] for row in rows)


def test_whisper_small_memory_io_by_hand(small):
    rows = operation_rows(small, FLOAT)
    # Every layer reads what goes in and writes what comes out; attention reads Q, K and V and writes one output.
    convolutions = (MELS * FRAMES + WIDTH * FRAMES) + (WIDTH * FRAMES + WIDTH * WINDOW)
    block = 4 * 2 * WINDOW * WIDTH + 4 * WINDOW * WIDTH + 2 * WINDOW * (WIDTH + FFN)
    weights = 3 * MELS * WIDTH + 3 * PROJECTIONS + WINDOW * WIDTH + LAYERS * (4 * PROJECTIONS + 2 * MLP)
    encoder = weights + convolutions + WINDOW * WIDTH + LAYERS * block
    assert total(rows, Phase.ENCODER).memory_io_bytes == 4 * encoder
    # One token: two embeddings; K and V of the token go to the cache; two attentions read a query and write.
    projections = 4 * 2 * WIDTH + 2 * WIDTH  # in and out of q, out, q, out; into k, v
    block = projections + 2 * 2 * WIDTH + 2 * (WIDTH + FFN)
    caches = 2 * WIDTH + 2 * WIDTH + 2 * WIDTH * WINDOW  # written; read of the token itself and of the encoder
    embeddings = 2 * 2 * WIDTH
    step = DECODER_WEIGHTS + WIDTH * TOKENS + (WIDTH + TOKENS) + embeddings + LAYERS * (block + caches)
    assert total(rows, Phase.STEP).memory_io_bytes == 4 * step
    assert total(rows, Phase.STEP_SLOPE).memory_io_bytes == 4 * LAYERS * 2 * WIDTH


def test_whisper_small_caches_by_hand(small):
    columns = cell_columns(operation_rows(small, FLOAT), Transcriptions(PROMPT, (10, 20), 9.0, 2))
    assert columns["self_attention_cache_bytes"] == 4 * LAYERS * 2 * WIDTH * (PROMPT + 15)
    assert columns["cross_attention_cache_bytes"] == 4 * LAYERS * 2 * WIDTH * WINDOW
    written = {kind: sum(x.cache_written for x in of_kind(small[Phase.PREFILL], kind)) for kind in LayerKind}
    assert written[LayerKind.SELF_ATTENTION] == LAYERS * 2 * WIDTH * PROMPT
    assert written[LayerKind.CROSS_ATTENTION] == LAYERS * 2 * WIDTH * WINDOW
    assert not of_kind(small[Phase.ENCODER], LayerKind.CROSS_ATTENTION)
    assert not any(layer.cache_read or layer.cache_written for layer in small[Phase.ENCODER])


def test_a_decoder_step_is_linear_in_its_position(small):
    at_zero = total(operation_rows(small, FLOAT), Phase.STEP)
    slope = total(operation_rows(small, FLOAT), Phase.STEP_SLOPE)
    direct = {Phase.STEP: count_step(whisper_small(), torch.zeros(1, MELS, FRAMES), 17)}
    assert total(operation_rows(direct, FLOAT), Phase.STEP) == at_zero + slope * 17


def test_the_kind_of_attention_does_not_change_the_counts():
    features = torch.zeros(1, 80, 300)
    model = build_whisper()
    counted = {}
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        counted[attention] = count(model.config, features, PROMPT)
        assert model.config._attn_implementation == attention
    assert counted["sdpa"] == counted["eager"]
    assert sum(layer.macs for layer in of_kind(counted["sdpa"][Phase.ENCODER], LayerKind.SELF_ATTENTION)) == (
        2 * 150 * 150 * 128
    )


def test_moonshine_is_counted_at_the_length_it_is_given():
    config = MoonshineConfig()
    width, ffn, layers, samples = 288, 1152, 6, 160_000
    lengths = [(samples - 127) // 64 + 1]
    for kernel, stride in ((7, 3), (3, 2)):
        lengths.append((lengths[-1] - kernel) // stride + 1)
    channels = [1, width, 2 * width, width]
    convolutions = sum(n * a * b * k for n, a, b, k in zip(lengths, channels, channels[1:], (127, 7, 3), strict=False))
    frames = lengths[-1]
    block = frames * (4 * width**2 + 2 * width * ffn) + 2 * frames**2 * width
    counts = count(config, torch.zeros(1, samples), 1)
    assert sum(layer.macs for layer in counts[Phase.ENCODER]) == convolutions + layers * block
    # Its decoder's feed-forward is gated: two projections up, one down.
    token = layers * (6 * width**2 + 3 * width * ffn + 2 * width * (frames + 1)) + width * 32768
    assert sum(layer.macs for layer in counts[Phase.STEP]) == token
    assert sum(layer.macs for layer in counts[Phase.STEP_SLOPE]) == layers * 2 * width
    assert {layer.kind for layer in counts[Phase.STEP]} == set(LayerKind) - {LayerKind.CONV}


def test_two_layers_priced_by_hand():
    """A linear layer of 6 x 4 in int4 with scales of 3 bytes a row, and an attention, which stays float."""
    code = QuantSpec(Scheme.DYNAMIC, PerChannel(), 4, activations=Activations(8)).weight_code
    report = LayerReport("fc", ModuleKind.LINEAR, (6, 4), code, code, "", stored_bits=6 * (4 * 4 + 24), weight_error=0)
    prices = Prices({"fc": report}, activations=8, floats=16)
    counts = {
        Phase.ENCODER: [
            LayerCount("fc", LayerKind.LINEAR, macs=48, weights=24, inputs=8, outputs=12),
            LayerCount("attention", LayerKind.CROSS_ATTENTION, 100, 0, 12, 12, cache_read=30, cache_written=10),
        ]
    }
    linear, attention = operation_rows(counts, prices)
    assert linear["bops"] == 48 * 4 * 8
    assert linear["weight_bytes"] == 6 * (2 + 3)
    assert linear["activation_bytes"] == 20
    assert (attention["weight_bits"], attention["bops"]) == (None, 100 * 16 * 16)
    assert (attention["activation_bytes"], attention["cache_bytes_read"], attention["cache_bytes_written"]) == (
        48, 60, 20
    )  # fmt: skip
    everything = total([linear, attention], Phase.ENCODER)
    assert (everything.macs, everything.bops, everything.memory_io_bytes) == (148, 27136, 30 + 20 + 48 + 60 + 20)


def configuration(spec, dtype="float32", backend="reference"):
    return Configuration(Model(path="embedded", dtype=dtype), backend, spec, "{}", "cpu", Supported())


def test_quantized_layers_are_8_by_8_and_the_rest_32_by_32():
    quantized = quantize(build_whisper(), "dynamic", "per_channel", 8, backend="reference")
    counts = count(quantized.model.config, torch.zeros(1, 80, 300), PROMPT)
    prices = Prices.of(configuration(quantized.spec), quantized.report.layers)
    rows = operation_rows(counts, prices)
    assert {row["kind"]: row["bops"] / row["macs"] for row in rows if row["macs"]} == {
        "linear": 64, "head": 1024, "conv": 1024, "self_attention": 1024, "cross_attention": 1024
    }  # fmt: skip
    step = cell_columns(rows, Transcriptions(PROMPT, (1,), 1.0, 1))["decoder_step_bops"]
    width, ffn, window = 128, 256, 150
    linear = 6 * width**2 + 2 * width * ffn
    assert step == 64 * linear + 1024 * (width * 512 + 2 * width * (PROMPT + 1 + window))


@pytest.mark.parametrize(
    ("spec", "dtype", "bits"),
    [
        (FULL_PRECISION, "float32", 32),
        (FULL_PRECISION, "bfloat16", 16),
        (QuantSpec(Scheme.NONE, PerTensor(), 16, NumberFormat.FP16, method="cast"), "float32", 16),
        (QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 4), "float32", 32),
    ],
)
def test_what_is_not_quantized_has_the_bits_of_the_float(spec, dtype, bits):
    backend = "none" if spec == FULL_PRECISION else "cast"
    assert Prices.of(configuration(spec, dtype, backend), []).floats == bits


def test_a_second_of_audio_costs_the_utterances_and_every_step_at_its_position():
    def rows(phase, macs):
        return operation_rows({phase: [LayerCount("x", LayerKind.LINEAR, macs)]}, FLOAT)

    layers = [row for phase, macs in zip(Phase, (1000, 100, 10, 1), strict=True) for row in rows(phase, macs)]
    heard = Transcriptions(prompt=2, generated=(3, 1), audio_seconds=4.0, windows=2)
    steps = (10 + 2) + (10 + 3) + (10 + 4) + (10 + 2)
    columns = cell_columns(layers, heard)
    assert columns["macs_per_audio_second"] == (2 * 1100 + steps) / 4
    assert columns["bops_per_audio_second"] == 1024 * (2 * 1100 + steps) / 4
    assert columns["decoder_step_bops"] == 1024 * (10 + (2 + 3 + 4 + 2) / 4)
    silent = cell_columns(layers, Transcriptions(2, (0,), 1.0, 1))
    assert silent["macs_per_audio_second"] == 1100
    assert silent["decoder_step_bops"] == 1024 * 12
    long = cell_columns(layers, replace(heard, windows=5))
    assert long["macs_per_audio_second"] == (5 * 1100 + steps) / 4


def test_the_prompt_is_what_the_decoder_starts_with():
    model = build_whisper()
    with decoder_prompt(model) as prompt, torch.no_grad():
        for start in ([5, 6, 7], [9]):
            model(input_features=torch.zeros(1, 80, 300), decoder_input_ids=torch.tensor([start]))
    assert prompt == [5, 6, 7]
    assert generated([5, 6, 7, 8], prompt) == generated([8], prompt) == [8]


EXPERIMENT = """
name = "counted"
model = "embedded"
[[data]]
dataset = "embedded"
split = "clean"
limit = 3
[decoding]
max_new_tokens = 40
[run]
device = "cpu"
workers = 1
[[grid]]
backend = "quanto"
bits = 8
"""


def test_a_cell_keeps_its_operations_and_its_result_their_sums(tmp_path):
    path = tmp_path / "counted.toml"
    path.write_text(EXPERIMENT)
    assert main([str(path), "--out", str(tmp_path)]) == 0
    frame = pandas.read_parquet(tmp_path / "counted" / "results.parquet").set_index("backend")
    whole, quantized = frame.loc["none"], frame.loc["quanto"]
    assert whole["macs_per_audio_second"] == quantized["macs_per_audio_second"]
    assert whole["bops_per_audio_second"] == pytest.approx(1024 * whole["macs_per_audio_second"])
    assert 1 / 4 < quantized["bops_per_audio_second"] / whole["bops_per_audio_second"] < 1 / 2
    assert quantized["decoder_step_memory_io_bytes"] < whole["decoder_step_memory_io_bytes"] / 2
    directory = RunDirectory(tmp_path / "counted")
    rows = directory.operations(quantized["cell_id"])
    assert sum(row["bops"] for row in rows if row["phase"] == "encoder") == quantized["encoder_bops"]
    assert {row["weight_bits"] for row in rows if row["kind"] == "linear"} == {8}
    assert pandas.isna(whole["peak_device_bytes"])
    utterances = directory.utterances(whole["cell_id"])
    final = sum(4 + len(row["tokens"]) for row in utterances) / 3
    assert whole["self_attention_cache_bytes"] == pytest.approx(final * 4 * 2 * 2 * 256)

    stored = directory.finished(quantized["cell_id"])
    before = MEASURED[: MEASURED.index("peak_device_bytes")]
    old = {**stored, "measured": {key: stored["measured"][key] for key in before}}
    shutil.rmtree(directory.cells / quantized["cell_id"])
    directory.write(CellRecord(quantized["cell_id"], old, utterances))
    assert main([str(path), "--out", str(tmp_path)]) == 0
    again = pandas.read_parquet(tmp_path / "counted" / "results.parquet").set_index("backend").loc["quanto"]
    assert pandas.isna(again["bops_per_audio_second"])
    assert directory.operations(quantized["cell_id"]) == []


def test_a_lookup_in_the_tie_multiplies_nothing_and_reads_its_codes():
    settings = {"modules": ["linear", "tied"], "method": "rtn"}
    report = quantize(build_whisper(), "weight_only", "per_channel", 4, backend="ptq", **settings).report
    tie = next(layer for layer in report.layers if layer.kind == "tied")
    spec = QuantSpec("weight_only", "per_channel", 4, modules=["linear", "tied"])
    prices = Prices.of(configuration(spec), report.layers)
    looked_up, multiplied = (
        prices.row(Phase.STEP, LayerCount(name, kind, macs, weights))
        for name, kind, macs, weights in (
            (tie.lookup, LayerKind.EMBEDDING, 0, 128),
            (tie.name, LayerKind.HEAD, 512 * 128, 512 * 128),
        )
    )
    assert looked_up["macs"] == looked_up["bops"] == 0
    assert looked_up["weight_bytes"] == pytest.approx(128 * tie.effective_bits / 8)
    assert multiplied["weight_bytes"] == pytest.approx(tie.stored_bits / 8)
    assert multiplied["bops"] == 512 * 128 * 4 * 32
