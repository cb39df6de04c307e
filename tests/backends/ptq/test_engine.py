"""In which order blocks are quantized, what they see, and what counts."""

import pytest
import torch
from torch import nn

from backends import ModelError, quantize
from backends.core.base import CalibrationInput
from backends.ptq._engine import Engine
from backends.ptq._method import Needs
from tests.backends.core.test_any_module import build_moonshine
from tests.conftest import build_whisper


def two_by_two():
    return build_whisper(encoder_layers=2, decoder_layers=2)


def linear_names(model):
    return [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "proj_out"]


def seen_by(model, items, coarse=False, needs=Needs.STATISTICS):
    """Statistics by layer, in the order of quantization; weights become crude on request."""
    seen = {}

    def solve(layer):
        seen[layer.name] = layer.known
        module = model.get_submodule(layer.name)
        if coarse:
            module.weight.data = (module.weight * 30).round() / 30
        return module

    with torch.no_grad():
        Engine(model, linear_names(model), needs, solve).run(items)
    return seen


@pytest.mark.parametrize("build", [two_by_two, lambda: build_moonshine()[0]], ids=["whisper", "moonshine"])
def test_every_layer_comes_once_and_the_encoder_first(build, whisper_inputs):
    items = [whisper_inputs] if "Whisper" in type(build()).__name__ else [build_moonshine()[1]]
    names = list(seen_by(build(), items))
    assert sorted(names) == sorted(linear_names(build()))
    assert names == sorted(names, key=lambda name: ".decoder." in name)


def test_without_rounding_layers_see_what_the_whole_model_shows_them(whisper_inputs):
    model = two_by_two()
    expected = {}
    hooks = [
        model.get_submodule(n).register_forward_pre_hook(lambda _, a, n=n: expected.__setitem__(n, a[0].flatten(0, -2)))
        for n in linear_names(model)
    ]
    with torch.no_grad():
        model(**whisper_inputs)
    for hook in hooks:
        hook.remove()
    for name, statistics in seen_by(model, [whisper_inputs]).items():
        inputs = expected[name]
        assert statistics.count == len(inputs)
        assert torch.allclose(statistics.second, inputs.T @ inputs / len(inputs), rtol=1e-3, atol=1e-4), name


def test_quantized_predecessors_feed_the_next_block(whisper_inputs):
    exact, coarse = (seen_by(two_by_two(), [whisper_inputs], crude) for crude in (False, True))
    for name in exact:
        same = torch.allclose(exact[name].second, coarse[name].second, rtol=1e-5, atol=1e-7)
        before_any = ("encoder.layers.0.", "decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn.q_proj")
        assert same == any(part in name for part in before_any), name


def test_the_drift_against_full_precision_grows_from_nothing(whisper_inputs):
    seen = seen_by(two_by_two(), [whisper_inputs], coarse=True, needs=Needs.EXACT)
    drift = {name: float(statistics.cross.norm()) for name, statistics in seen.items()}
    assert drift["model.encoder.layers.0.fc1"] == 0
    assert drift["model.encoder.layers.1.fc1"] > 0
    assert drift["model.decoder.layers.1.fc2"] > 0


def test_padding_does_not_count(whisper_inputs):
    lengths = {"encoder": torch.tensor([150, 90]), "decoder": torch.tensor([7, 4])}
    other = whisper_inputs["decoder_input_ids"].clone()
    other[1, 4:] = 9
    items = [
        CalibrationInput(whisper_inputs, lengths),
        CalibrationInput(whisper_inputs | {"decoder_input_ids": other}, lengths),
    ]
    one, two = (seen_by(two_by_two(), [item]) for item in items)
    for name, statistics in one.items():
        of_states = ".encoder." in name or "encoder_attn.k_proj" in name or "encoder_attn.v_proj" in name
        assert statistics.count == (240 if of_states else 11), name
        assert torch.allclose(statistics.second, two[name].second, rtol=1e-5, atol=1e-6), name
    whole = seen_by(two_by_two(), [whisper_inputs])
    assert whole["model.decoder.layers.0.fc1"].count == 14


@pytest.mark.parametrize("method", ["gptq", "awq", "smoothquant", "gptaq"])
def test_missing_calibration_is_one_clear_error(method):
    with pytest.raises(ModelError, match="pass calibration="):
        quantize(build_whisper(), "weight_only", "per_channel", 4, backend="ptq", method=method)
    with pytest.raises(ModelError, match="pass calibration="):
        quantize(
            build_whisper(), "weight_only", "per_channel", None, backend="ptq", method="rtn", options={"target_bits": 4}
        )


def test_layers_that_calibration_does_not_reach_are_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, inputs):
            return self.used(inputs)

    with pytest.raises(ModelError, match="did not reach unused"):
        quantize(Half(), "weight_only", "per_channel", 4, backend="ptq", calibration=[torch.randn(4, 64)])
