import pytest
import torch
from torch import nn

from backends import ModelError, quantize
from backends.ptq._hadamard import factors, rotate

WIDTHS = (1, 2, 4, 12, 64, 192, 288, 384, 416, 768, 1152, 1536, 1664, 3072)


@pytest.mark.parametrize("width", WIDTHS)
def test_rotations_are_orthonormal_with_even_entries(width):
    matrix = rotate(torch.eye(width, dtype=torch.float64))
    assert torch.allclose(matrix @ matrix.T, torch.eye(width, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(matrix.abs(), torch.full_like(matrix, width**-0.5))


@pytest.mark.parametrize("width", WIDTHS)
def test_rotating_back_with_the_transpose_and_inner_products(width):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 5, width, generator=generator)
    matrix = rotate(torch.eye(width))
    turned = rotate(vectors)
    assert turned.shape == vectors.shape
    assert torch.allclose(turned @ matrix.T, vectors, atol=1e-5)
    assert torch.allclose(turned @ turned.mT, vectors @ vectors.mT, rtol=1e-4, atol=1e-3)


def test_an_outlier_is_spread_over_all_channels():
    vector = torch.zeros(416)
    vector[7] = 100
    assert rotate(vector).abs().max() < 5


@pytest.mark.parametrize("width", [3, 6, 35, 92, 100])
def test_widths_without_a_matrix_are_named_before_a_weight_is_touched(width):
    assert factors(width) is None
    with pytest.raises(ValueError, match=str(width)):
        rotate(torch.zeros(width))
    model = nn.Sequential(nn.Linear(64, width), nn.Linear(width, 8))
    before = model[1].weight.detach().clone()
    for settings in ({"method": "quarot"}, {"method": "rtn", "options": {"rotate": True}}):
        with pytest.raises(ModelError, match=rf"1 \({width}\)"):
            quantize(model, "weight_only", "per_channel", 4, backend="ptq", **settings)
    assert torch.equal(model[1].weight, before)
