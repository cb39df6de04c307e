"""Padding is kept from every observer of activation ranges, unless nothing is said of it."""

import pytest
import torch
from torch import nn

from backends import CalibrationInput, quantize
from tests.backends.cases import require

ADAPTERS = [
    ("quanto", {}),
    ("torch_static", {"options": {"reduce_range": True}}),
    ("torch_static", {"options": {"reduce_range": True}, "outputs": False}),
    ("ptq", {"method": "rtn"}),
    ("torchao", {}),
    ("torchao", {"method": "smoothquant"}),
]


def speech():
    """Two sequences of five vectors; the last two of the first are padding, and very large."""
    torch.manual_seed(0)
    vectors = torch.randn(2, 5, 32)
    vectors[0, 3:] = 1000.0
    return vectors


def error(backend, asked, lengths):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 16))
    test = torch.randn(1, 7, 32)
    before = model(test)
    shown = [CalibrationInput(speech(), lengths)]
    quantized = quantize(model, "static", "per_channel", 8, backend=backend, **asked, calibration=shown).model
    with torch.no_grad():
        return float((quantized(test) - before).norm() / before.norm())


@pytest.mark.parametrize(("backend", "asked"), ADAPTERS)
def test_ranges_are_those_of_speech(backend, asked):
    require(backend, "static", options=asked.get("options"))
    assert error(backend, asked, {"encoder": torch.tensor([3, 5])}) < 0.2
    assert error(backend, asked, {}) > 0.5


@pytest.mark.parametrize(("backend", "asked"), ADAPTERS)
def test_without_padding_nothing_changes(backend, asked):
    require(backend, "static", options=asked.get("options"))
    torch.manual_seed(2)
    vectors, test = torch.randn(2, 5, 32), torch.randn(1, 7, 32)
    outputs = []
    for lengths in ({}, {"encoder": torch.tensor([5, 5])}):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 16))
        shown = [CalibrationInput(vectors, lengths)]
        result = quantize(model, "static", "per_channel", 8, backend=backend, **asked, calibration=shown)
        with torch.no_grad():
            outputs.append(result.model(test))
    assert torch.equal(*outputs)
