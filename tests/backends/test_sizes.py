"""Sizes of whisper-small as published and measured, from our own byte counter, and against the saved file."""

import pytest

from backends import quantize
from backends.core.manifest import WEIGHTS
from backends.core.report import size_bytes
from tests.backends.cases import require
from tests.conftest import build_whisper

FULL_MB = 966.94
HEAD = ["linear", "head"]
CASES = [
    # backend, scheme, granularity, bits, settings, MB and reduction in percent as measured on the library's own
    ("torch_dynamic", "dynamic", "per_tensor", 8, {"modules": HEAD}, -57.4),
    ("torch_dynamic", "dynamic", "per_channel", 8, {"modules": [*HEAD, "embedding"]}, -69.6),
    ("quanto", "weight_only", "per_channel", 8, {"modules": HEAD}, -57.3),
    ("quanto", "weight_only", "per_channel", 8, {}, -61.4),
    ("quanto", "weight_only", "per_group:128", 4, {}, -70.5),
    ("quanto", "weight_only", "per_group:128", 2, {}, -75.6),
    ("bitsandbytes", "weight_only", "per_channel", 8, {}, -61.4),
    ("bitsandbytes", "weight_only", "per_group:64", 4, {"format": "nf4", "modules": HEAD}, -68.1),
    ("bitsandbytes", "weight_only", "per_group:64", 4, {"format": "nf4"}, -70.5),
    ("bitsandbytes", "weight_only", "per_group:64", 4, {"format": "nf4", "options": {"double_quant": True}}, -71.4),
    ("torchao", "weight_only", "per_channel", 8, {}, -61.4),
    ("torchao", "weight_only", "per_channel", 8, {"format": "fp8_e4m3"}, -61.4),
    ("torchao", "weight_only", "per_group:32", 4, {}, -58.2),
    ("hqq", "weight_only", "per_group:64", 4, {"method": "rtn"}, -69.2),
    ("hqq", "weight_only", "per_group:64", 3, {"method": "rtn"}, -71.2),
]
TIE = {"modules": ["tied"], "bits": 6, "granularity": "per_channel"}
SHAPES = {
    "tiny.en": (26.6, {"vocabulary": 51864, "width": 384, "layers": 4, "heads": 6}),
    "base": (47.8, {"vocabulary": 51865, "width": 512, "layers": 6, "heads": 8}),
    "small": (144.3, {"vocabulary": 51865, "width": 768, "layers": 12, "heads": 12}),
}
"""MB by arithmetic: 4.3125 bits a weight, 6 bits and a scale and zero point a row of the tie, 16 bits for the rest."""


def whisper_of(vocabulary, width, layers, heads):
    """A Whisper of that shape with random weights."""
    return build_whisper(
        vocabulary=vocabulary,
        width=width,
        frames=3000,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_recipe_with_a_tie_and_a_narrow_rest_has_the_size_of_the_arithmetic(shape, tmp_path):
    megabytes, own = SHAPES[shape]
    settings = {"backend": "ptq", "method": "rtn", "rest": "fp16", "recipe": [TIE]}
    found = quantize(whisper_of(**own), "weight_only", "per_group:64", 4, **settings)
    assert found.report.size_bytes / 1e6 == pytest.approx(megabytes, rel=0.005)
    found.save(tmp_path / "saved")
    assert (tmp_path / "saved" / WEIGHTS).stat().st_size / 1e6 == pytest.approx(megabytes, rel=0.005)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of whisper-small's shape with random weights, on disk."""
    directory = tmp_path_factory.mktemp("whisper-small")
    small = whisper_of(**SHAPES["small"][1])
    assert sum(parameter.numel() for parameter in small.parameters()) == 241_734_912
    small.save_pretrained(directory)
    return directory


def test_full_precision(checkpoint):
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint)
    assert size_bytes(model) / 1e6 == pytest.approx(FULL_MB, abs=0.01)


@pytest.mark.parametrize(("backend", "scheme", "granularity", "bits", "settings", "percent"), CASES)
def test_size_of_whisper_small(checkpoint, tmp_path, backend, scheme, granularity, bits, settings, percent):
    from transformers import WhisperForConditionalGeneration

    require(backend, scheme, bits)
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint)
    result = quantize(model, scheme, granularity, bits, backend=backend, **settings)
    assert -100 * result.report.size_reduction == pytest.approx(percent, abs=0.3)
    result.save(tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size == pytest.approx(result.report.size_bytes, rel=0.01)
    (tmp_path / WEIGHTS).unlink()


def test_three_bits_in_groups_take_no_more_than_they_must(checkpoint, tmp_path):
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint)
    before = size_bytes(model)
    result = quantize(model, "weight_only", "per_group:64", 3, backend="ptq", method="rtn")
    layers = [layer for layer in result.report.layers if layer.effective is not None]
    weights = sum(layer.shape[0] * layer.shape[1] for layer in layers)
    codes, groups = 3 * weights, weights / 64
    least = codes + 16 * groups + 3 * groups
    assert least <= sum(layer.stored_bits for layer in layers) <= 1.02 * least
    whole = before - 4 * weights + least / 8
    assert whole <= result.report.size_bytes <= 1.02 * whole
    result.save(tmp_path)
    assert whole <= (tmp_path / WEIGHTS).stat().st_size <= 1.02 * whole
