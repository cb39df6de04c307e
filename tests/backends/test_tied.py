"""Head and embedding as one quantized tensor, and what is not quantized in 16 bits."""

import copy
import re

import pytest
import torch

from backends import CheckpointError, ModelError, SpecError, UnsupportedError, load, quantize, quantize_spec
from backends.core.holding import held_head
from backends.core.registry import get
from backends.core.report import size_bytes
from tests.backends.cases import SUPPORTED, require
from tests.conftest import build_whisper

TIED = [case for case in SUPPORTED if "tied" in {*case.spec.modules, *(m for r in case.spec.recipe for m in r.modules)}]
ROWS = torch.tensor([[0, 5, 511], [5, 2, 300]])


def small(backend="ptq", bits=8, granularity="per_channel", model=None, **settings):
    settings = {"modules": ["linear", "tied"], **settings}
    own = {"method": "rtn"} if backend == "ptq" else {}
    return quantize(model or build_whisper(), "weight_only", granularity, bits, backend=backend, **(own | settings))


WIDTHS = [
    ("reference", 4, "per_group:32", {}),
    *(("ptq", bits, "per_group:32", {}) for bits in range(2, 9)),
    ("ptq", 3, "per_tensor", {}),
    ("ptq", 4, "per_group:16", {"format": "nvfp4"}),
    ("ptq", 4, "per_group:32", {"format": "mxfp4"}),
    ("ptq", 8, "per_group:32", {"format": "mxfp8"}),
    ("ptq", 4, "per_channel", {"options": {"rotate": True}}),
    ("quanto", 8, "per_channel", {}),
    ("quanto", 8, "per_channel", {"format": "fp8_e4m3"}),
    *(("quanto", bits, granularity, {}) for bits in (4, 2) for granularity in ("per_group:32", "per_channel")),
    *(("hqq", bits, "per_group:64", {}) for bits in (8, 6, 5, 4, 3, 2, 1)),
    ("hqq", 4, "per_channel", {}),
    ("hqq", 4, "per_group:64", {"options": {"axis": 0}}),
    ("hqq", 4, "per_group:256", {"options": {"straddle": True}}),
    ("bitsandbytes", 8, "per_channel", {}),
    *(("bitsandbytes", 4, "per_group:64", {"format": kind}) for kind in ("nf4", "fp4")),
    ("bitsandbytes", 4, "per_group:32", {"format": "nf4", "options": {"double_quant": True}}),
    *(("torchao", 8, granularity, {}) for granularity in ("per_channel", "per_group:32", "per_tensor")),
    ("torchao", 8, "per_channel", {"symmetric": False}),
    ("torchao", 4, "per_group:32", {}),
    *(("torchao", 8, granularity, {"format": "fp8_e4m3"}) for granularity in ("per_channel", "per_tensor")),
]


@pytest.mark.parametrize(("backend", "bits", "granularity", "settings"), WIDTHS)
def test_rows_are_those_of_the_dequantized_head(backend, bits, granularity, settings):
    require(backend)
    model = small(backend, bits, granularity, **settings).model
    whole = get(backend).dequantize(model.proj_out).float()
    found = model.get_input_embeddings()(ROWS)
    assert found.shape == (2, 3, 128)
    exact = not settings.get("options", {}).get("rotate")
    assert torch.equal(found, whole[ROWS]) if exact else torch.allclose(found, whole[ROWS], atol=1e-6)


@pytest.mark.parametrize("case", TIED, ids=str)
def test_the_tie_is_one_storage_and_one_row_of_the_report(case, tmp_path):
    inputs = [{"input_features": torch.randn(1, 80, 300), "decoder_input_ids": ROWS[:1]}]
    found = quantize_spec(build_whisper(), case.spec, case.backend, dict(case.options), inputs)
    kinds = {layer.kind: layer for layer in found.report.layers}
    assert not {"head", "embedding"} & kinds.keys()
    assert kinds["tied"].lookup == "model.decoder.embed_tokens"
    assert not list(found.model.get_input_embeddings().state_dict())
    if case.backend != "quanto":  # its tensors cannot be copied
        assert size_bytes(copy.deepcopy(found.model)) == found.report.size_bytes
    found.save(tmp_path / "saved")
    restored = load(tmp_path / "saved").model
    assert size_bytes(restored) == found.report.size_bytes
    assert restored.get_input_embeddings()._head[0] is restored.proj_out
    assert torch.equal(restored.get_input_embeddings()(ROWS), found.model.get_input_embeddings()(ROWS))


def test_the_tie_saves_what_the_embedding_took():
    apart, together = small(modules=["linear", "head"]).report, small().report
    assert apart.size_bytes - together.size_bytes == 512 * 128 * 4


def test_what_is_not_tied_is_refused():
    untied = build_whisper(tie_word_embeddings=False)
    untied.proj_out.weight = torch.nn.Parameter(untied.proj_out.weight.clone())
    with pytest.raises(ModelError, match="does not tie"):
        small(model=untied)
    with pytest.raises(ModelError, match="does not tie"):
        small(model=torch.nn.Sequential(torch.nn.Linear(8, 8)))
    with pytest.raises(SpecError, match="leave out either tied or head"):
        small(modules=["tied", "head"])
    with pytest.raises(SpecError, match="leave out either tied or embedding"):
        small(modules=["embedding"], recipe=[{"modules": ["tied"], "bits": 6}])


@pytest.mark.parametrize(("backend", "scheme"), [("torch_dynamic", "dynamic"), ("torch_static", "static")])
def test_libraries_that_pack_whole_weights_say_so(backend, scheme):
    with pytest.raises(UnsupportedError, match="single rows of a quantized head"):
        quantize(build_whisper(), scheme, "per_channel", 8, backend=backend, modules=["linear", "tied"])


def test_a_held_head_gives_the_same(whisper_inputs):
    found = small(bits=6)
    plain = found.model(**whisper_inputs).logits
    with held_head(found.model):
        assert found.model.proj_out._held is not None
        assert torch.equal(found.model(**whisper_inputs).logits, plain)
        assert size_bytes(found.model) == found.report.size_bytes
    assert found.model.proj_out._held is None


def halved():
    model = build_whisper()
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model


@pytest.mark.parametrize("settings", [{}, {"modules": ["linear"]}], ids=["tied", "embedding in floats"])
def test_a_rest_in_16_bits_that_loses_nothing_changes_no_logit(settings, tmp_path, whisper_inputs):
    full, narrow = (small(model=halved(), bits=4, rest=rest, **settings) for rest in ("fp32", "fp16"))
    assert narrow.report.notes == full.report.notes
    assert narrow.report.size_bytes < full.report.size_bytes
    narrow.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert size_bytes(loaded.model) == narrow.report.size_bytes
    assert loaded.model.dtype is narrow.model.dtype is torch.float32
    with torch.no_grad():
        logits = [found.model(**whisper_inputs).logits for found in (full, narrow, loaded)]
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert {layer.stored_bits / layer.parameters for layer in narrow.report.layers if layer.effective is None} == {16}
    written = (tmp_path / "saved" / "quantized.safetensors").stat().st_size
    assert written == pytest.approx(narrow.report.size_bytes, rel=0.02)


def test_a_tied_model_is_restored_into_one_that_is_given(tmp_path, whisper_inputs):
    found = small(bits=4, rest="fp16")
    found.save(tmp_path / "saved")
    restored = load(tmp_path / "saved", build_whisper()).model
    with torch.no_grad():
        assert torch.equal(restored(**whisper_inputs).logits, found.model(**whisper_inputs).logits)
    with pytest.raises(CheckpointError, match="proj_out"):
        load(tmp_path / "saved", build_whisper(vocabulary=520))


def test_published_is_the_narrowest_that_holds_all():
    assert small(model=halved(), rest="published").report.size_bytes == small(rest="fp16").report.size_bytes
    assert small(rest="published").report.size_bytes == small().report.size_bytes
    rounded = small(rest="bf16").report.notes[-1]
    assert re.fullmatch(r"of what is not quantized \d+ numbers of \d+ were rounded", rounded)


def test_a_rest_beyond_the_range_or_narrow_already_is_refused():
    model = build_whisper()
    model.model.encoder.conv1.weight.data[0, 0, 0] = 1e6
    with pytest.raises(ModelError, match=r"conv1\.weight has numbers beyond the range of float16"):
        small(model=model, rest="fp16")
    with pytest.raises(ModelError, match="nothing left is wider than 16 bits"):
        quantize(build_whisper().bfloat16(), "weight_only", "per_channel", 8, backend="ptq", method="rtn", rest="fp16")
    with pytest.raises(UnsupportedError, match="leave rest out"):
        quantize(build_whisper(), "none", "per_tensor", 16, backend="cast", format="fp16", rest="fp16")
    with pytest.raises(SpecError, match="fp32, fp16, bf16, published"):
        small(rest="int8")
