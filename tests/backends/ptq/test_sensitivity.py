"""The second-order estimate of harm against the divergence that it stands for."""

import numpy as np
import pytest
import torch
from torch import nn

from backends import CalibrationInput
from backends.ptq._engine import forward
from backends.ptq._sensitivity import expected_harm
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
