import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backends.ptq._packing import pack, packed_bits, packed_bytes, unpack


@given(st.integers(1, 8), st.integers(0, 200), st.integers(0, 2**31))
def test_any_number_of_codes_survives_in_exactly_its_bytes(bits, count, seed):
    codes = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(seed))
    data = pack(codes, bits)
    assert data.dtype == torch.uint8
    assert data.numel() == packed_bytes(count, bits) == -(-count // 8) * bits
    assert torch.equal(unpack(data, bits, count).long(), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_extremes_do_not_spill_into_their_neighbours(bits):
    codes = torch.tensor([0, 2**bits - 1] * 8).reshape(4, 4)
    assert torch.equal(unpack(pack(codes, bits), bits, 16).reshape(4, 4).long(), codes)
    assert not pack(torch.zeros(9), bits).any()
    assert (pack(torch.full((8,), 2**bits - 1), bits) == 255).all()


@given(st.integers(1, 8), st.integers(1, 200))
def test_bits_follow_from_the_bytes(bits, count):
    assert packed_bits(pack(torch.zeros(count), bits), count) == bits
