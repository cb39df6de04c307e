"""The second-order estimate of harm against the divergence that it stands for."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import MoonshineConfig, MoonshineForConditionalGeneration

from backends import CalibrationInput
from backends.ptq._engine import forward
from backends.ptq._sensitivity import expected_harm, expected_state_error
from tests.conftest import build_whisper


def changes_of(model, names, size):
    generator = torch.Generator().manual_seed(3)
    found = {}
    for name in names:
        weight = model.get_submodule(name).weight
        found[name] = [size * factor * torch.randn(weight.shape, generator=generator) for factor in (1.0, 3.0)]
    return found


def divergence(model, name, change, item):
    """Of the model's answers after the change from before, nats a position."""

    def answers():
        with torch.no_grad():
            return torch.log_softmax(forward(model, item).logits.double(), -1)

    before = answers()
    weight = model.get_submodule(name).weight
    with torch.no_grad():
        weight += change
        after = answers()
        weight -= change
    return float((before.exp() * (before - after)).sum(-1).mean())


@pytest.fixture(scope="module")
def whisper():
    model = build_whisper().eval()
    torch.manual_seed(5)
    inputs = {
        "input_features": torch.randn(12, 80, 300),
        "decoder_input_ids": torch.randint(0, 512, (12, 20)),
    }
    return model, CalibrationInput(inputs)


def test_it_is_the_divergence_of_small_changes(whisper):
    model, item = whisper
    names = ["model.encoder.layers.0.fc1", "model.decoder.layers.0.encoder_attn.v_proj", "model.decoder.layers.0.fc2"]
    changes = changes_of(model, names, 0.002)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    estimated = expected_harm(model, changes, [item])
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    measured = np.array([[divergence(model, name, change, item) for change in changes[name]] for name in names])
    assert estimated == pytest.approx(measured, rel=0.5)
    assert estimated[:, 1] / estimated[:, 0] == pytest.approx(np.full(3, 9.0), rel=0.8)


def test_padding_does_not_count(whisper):
    model, item = whisper
    names = ["model.decoder.layers.0.fc2"]
    changes = changes_of(model, names, 0.002)
    lengths = {"decoder": torch.full((12,), 8)}
    cut = {**item.inputs, "decoder_input_ids": item.inputs["decoder_input_ids"][:, :8]}
    padded = expected_harm(model, changes, [CalibrationInput(item.inputs, lengths)])
    assert padded == pytest.approx(expected_harm(model, changes, [CalibrationInput(cut, lengths)]), rel=1e-3)


def test_of_a_plain_model_it_is_the_mean_squared_change():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8))
    vectors = torch.randn(400, 16)
    change = 0.01 * torch.randn(8, 16)
    estimated = expected_harm(model, {"1": [change]}, [CalibrationInput(vectors)])
    with torch.no_grad():
        exact = (model[0](vectors) @ change.T).square().mean()
    assert float(estimated[0, 0]) == pytest.approx(float(exact), rel=0.5)


def attended(model, item, layer, change=0.0):
    """States of the encoder after a change of a layer's weight, (frames, width), and the attention that they get."""
    model.set_attn_implementation("eager")
    weight = model.get_submodule(layer).weight
    with torch.no_grad():
        weight += change
        output = forward(model, item, output_attentions=True)
        weight -= change
    model.set_attn_implementation("sdpa")
    return output.encoder_last_hidden_state[0], torch.stack(output.cross_attentions).mean((0, 1, 2, 3))


def build_moonshine():
    sizes = {f"{part}_{what}": count for part in ("encoder", "decoder") for what, count in SIZES.items()}
    config = MoonshineConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, max_position_embeddings=64, initializer_range=0.1, **sizes
    )
    return MoonshineForConditionalGeneration(config)


SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
SOUND = {
    "whisper": (build_whisper, {"input_features": (1, 80, 300)}, "model.encoder.layers.0.fc1"),
    "moonshine": (build_moonshine, {"input_values": (1, 16000)}, "model.encoder.layers.0.mlp.fc1"),
}
"""How a model of the family is built, the shape of its input, and a layer."""


@pytest.mark.parametrize("family", SOUND)
def test_the_error_of_states_is_their_weighted_squared_change(family):
    torch.manual_seed(5)
    build, sound, layer = SOUND[family]
    model = build().eval()
    inputs = {name: torch.randn(shape) for name, shape in sound.items()}
    item = CalibrationInput({**inputs, "decoder_input_ids": torch.randint(0, 512, (1, 9))})
    changes = changes_of(model, [layer], 0.002)
    before, attention = attended(model, item, layer)
    exact = []
    for change in changes[layer]:
        moved = (attended(model, item, layer, change)[0] - before).square().sum(-1)
        exact.append(float((attention * moved).sum() / (attention * before.square().sum(-1)).sum()))
    estimated = expected_state_error(model, changes, [item])
    assert model.config._attn_implementation == "sdpa"
    assert estimated[0] == pytest.approx(np.array(exact), rel=0.5)


def test_text_that_is_padding_pays_no_attention(whisper):
    model, item = whisper
    changes = changes_of(model, ["model.encoder.layers.0.fc1"], 0.002)
    lengths = {"decoder": torch.full((12,), 8)}
    cut = {**item.inputs, "decoder_input_ids": item.inputs["decoder_input_ids"][:, :8]}
    padded = expected_state_error(model, changes, [CalibrationInput(item.inputs, lengths)])
    assert padded == pytest.approx(expected_state_error(model, changes, [CalibrationInput(cut, lengths)]), rel=1e-3)
