"""Planes to tensors and back: padding, channel order and exact inverses at every size (DESIGN D2)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralcodec.nn.layout import (
    PACKED_CHANNELS,
    pack,
    pad_plane,
    padded_size,
    planes_to_tensors,
    tensors_to_planes,
    to_samples,
    unpack,
)

CPU = torch.device("cpu")


def make_planes(height, width, seed=0):
    rng = np.random.default_rng(seed)
    chroma = (-(-height // 2), -(-width // 2))
    return tuple(rng.integers(0, 256, s, dtype=np.uint8) for s in ((height, width), chroma, chroma))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_every_size_comes_back(height, width, seed):
    planes = make_planes(height, width, seed)
    y, uv = planes_to_tensors(planes, CPU)
    ph, pw = padded_size(height, width)
    assert ph % 16 == pw % 16 == 0 and 0 <= ph - height < 16 and 0 <= pw - width < 16
    assert y.shape == (1, 1, ph, pw) and uv.shape == (1, 2, ph // 2, pw // 2)
    x = pack(y, uv)
    assert x.shape == (1, PACKED_CHANNELS, ph // 8, pw // 8)
    back = tensors_to_planes(*to_samples(*unpack(x)), height, width)
    for a, b in zip(planes, back, strict=True):
        assert a.dtype == b.dtype == np.uint8 and b.flags.c_contiguous
        assert np.array_equal(a, b)


def test_all_sample_values_survive_packing():
    y = torch.arange(256.0).reshape(1, 1, 16, 16)
    uv = torch.stack([torch.arange(64.0), 255 - torch.arange(64.0)]).reshape(1, 2, 8, 8)
    x = pack(y, uv)
    assert x.min() == -0.5 and x.max() == 0.5
    back = unpack(x)
    assert (back[0] - y).abs().max() < 1e-3
    assert all(torch.equal(a, b) for a, b in zip(to_samples(*back), (y, uv), strict=True))


def test_channel_order():
    """Channels 0..63 are Y by (row, column) of an 8x8 cell, 64..79 U and 80..95 V by those of a 4x4 cell."""
    planes = make_planes(16, 32)
    x = (pack(*planes_to_tensors(planes, CPU)) + 0.5) * 255
    for row, column, cell in ((0, 0, (0, 0)), (3, 5, (1, 2)), (7, 7, (0, 3))):
        r, c = cell
        assert round(float(x[0, 8 * row + column, r, c])) == planes[0][8 * r + row, 8 * c + column]
    for row, column, cell in ((0, 0, (0, 0)), (1, 3, (1, 2))):
        r, c = cell
        assert round(float(x[0, 64 + 4 * row + column, r, c])) == planes[1][4 * r + row, 4 * c + column]
        assert round(float(x[0, 80 + 4 * row + column, r, c])) == planes[2][4 * r + row, 4 * c + column]


def test_padding_repeats_the_last_row_and_column():
    plane = make_planes(3, 5)[0]
    padded = pad_plane(plane, 16, 16)
    assert np.array_equal(padded[:3, :5], plane)
    assert (padded[:3, 5:] == plane[:, -1:]).all() and (padded[3:, :5] == plane[-1:]).all()
    assert (padded[3:, 5:] == plane[-1, -1]).all()


@pytest.mark.parametrize(("size", "expected"), [((1, 1), (16, 16)), ((16, 16), (16, 16)), ((17, 4096), (32, 4096)),
                                                ((1080, 1920), (1088, 1920))])
def test_padded_size(size, expected):
    assert padded_size(*size) == expected


def test_samples_round_half_up_and_clamp():
    y = torch.tensor([-3.0, -0.5, -0.51, 0.49, 0.5, 1.5, 2.5, 254.5, 255.5, 300.0])
    assert to_samples(y, y)[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 255, 255, 255]


def test_packed_tensors_are_channels_last():
    y, uv = planes_to_tensors(make_planes(32, 48), CPU)
    assert pack(y, uv).is_contiguous(memory_format=torch.channels_last)
