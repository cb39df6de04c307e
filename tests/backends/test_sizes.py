"""Sizes of whisper-small as published and measured, from our own byte counter, and against the saved file.

Of models of `n` layers an `n`-th is quantized: one layer of each half, an `n`-th of the vocabulary and of the encoder's
positions. All that is quantized repeats `n` times in the whole model, row by row; `Shape.whole` adds up.
"""

from dataclasses import dataclass

import pytest

from backends import quantize
from backends.core.manifest import WEIGHTS
from backends.core.report import size_bytes
from tests.backends.cases import require
from tests.conftest import build_whisper

FULL_MB = 966.94
HEAD = ["linear", "head"]
CASES = [
    # backend, scheme, granularity, bits, settings, reduction in percent as measured on the library's own
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


@dataclass(frozen=True)
class Shape:
    """Of a published Whisper."""

    vocabulary: int
    width: int
    layers: int
    heads: int

    def part(self, divisor):
        """A Whisper with random weights, of which the whole has `divisor` times as many layers, rows and positions."""
        layers = self.layers // divisor
        return build_whisper(
            vocabulary=self.vocabulary // divisor,
            width=self.width,
            frames=3000 // divisor,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=4 * self.width,
            decoder_ffn_dim=4 * self.width,
        )

    def whole(self, size, divisor, weight_bytes=4):
        """The size of the whole, of that of its part: two convolutions, 448 positions, two norms stay as they are."""
        alike = self.width * ((3 * 80 + 1) + (3 * self.width + 1) + 448 + 2 * 2)
        return divisor * size - (divisor - 1) * alike * weight_bytes


TINY, BASE, SMALL = Shape(51864, 384, 4, 6), Shape(51865, 512, 6, 8), Shape(51865, 768, 12, 12)


@pytest.mark.parametrize(
    ("shape", "divisor", "megabytes"),
    [(TINY, 1, 26.6), (TINY, 4, 26.6), (BASE, 6, 47.8), (SMALL, 12, 144.3)],
    ids=["tiny.en", "tiny.en by its part", "base", "small"],
)
def test_a_recipe_with_a_tie_and_a_narrow_rest_has_the_size_of_the_arithmetic(shape, divisor, megabytes, tmp_path):
    """4.3125 bits a weight, 6 bits and a scale and zero point a row of the tie, 16 bits for the rest."""
    settings = {"backend": "ptq", "method": "rtn", "rest": "fp16", "recipe": [TIE]}
    found = quantize(shape.part(divisor), "weight_only", "per_group:64", 4, **settings)
    found.save(tmp_path / "saved")
    for size in (found.report.size_bytes, (tmp_path / "saved" / WEIGHTS).stat().st_size):
        assert shape.whole(size, divisor, 2) / 1e6 == pytest.approx(megabytes, rel=0.005)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of a twelfth of whisper-small, with random weights, on disk."""
    directory = tmp_path_factory.mktemp("whisper-small")
    part = SMALL.part(12)
    assert SMALL.whole(sum(parameter.numel() for parameter in part.parameters()), 12, 1) == 241_734_912 - SMALL.width
    part.save_pretrained(directory)
    return directory


def test_full_precision(checkpoint):
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint)
    assert SMALL.whole(size_bytes(model), 12) / 1e6 == pytest.approx(FULL_MB, abs=0.01)


@pytest.mark.parametrize(("backend", "scheme", "granularity", "bits", "settings", "percent"), CASES)
def test_size_of_whisper_small(checkpoint, tmp_path, backend, scheme, granularity, bits, settings, percent):
    from transformers import WhisperForConditionalGeneration

    require(backend, scheme, bits)
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint)
    result = quantize(model, scheme, granularity, bits, backend=backend, **settings)
    reduced, full = (SMALL.whole(s, 12) for s in (result.report.size_bytes, result.report.full_precision_bytes))
    assert 100 * (reduced / full - 1) == pytest.approx(percent, abs=0.3)
    result.save(tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size == pytest.approx(result.report.size_bytes, rel=0.01)


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
