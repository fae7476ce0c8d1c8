"""Loop filters of decoded planes: the same integers as the reference decoder's, in strips or whole, and what they do to a picture."""

import numpy as np
import pytest
import torch

from bitstream_spec.reference import filters as reference
from neuralcodec.core.types import PlaneFilter
from neuralcodec.nn import loop_filter
from neuralcodec.nn.loop_filter import TAPS, TURNED, apply_filters, block_classes, filter_samples, halved_luma

FRAC = 14


def plane(seed, height, width, low=-20.0, high=275.0):
    """Rough on the left, smooth on the right, multiples of 2^-14, beyond the range of samples here and there."""
    rng = np.random.default_rng(seed)
    rough = rng.uniform(low, high, (height, width))
    smooth = rng.uniform(low, high) + rng.normal(0, 0.8, (height, width))
    x = np.where(np.arange(width) < width / 2, rough, smooth)
    return torch.from_numpy(np.round(x * 2**FRAC) / 2**FRAC).float()[None, None]


def draw(seed, classes, largest=31, clip=0):
    return PlaneFilter(np.random.default_rng(seed).integers(-largest, largest + 1, (classes, len(TAPS))), clip)


ZEROS = PlaneFilter(np.zeros((1, 12), np.int64))


@pytest.mark.parametrize("clip", [0, 1, 2, 3])
@pytest.mark.parametrize("classes", [1, 2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 32), (96, 176), (8, 8)])
def test_the_reference_decoder_gives_the_same(classes, clip, height, width):
    for seed in range(3):
        x, w = plane(seed, height, width), draw(seed, classes, clip=clip)
        expected = reference.filter_plane(np.round(x[0, 0].double().numpy() * 2**FRAC).astype(np.int64), reference.PlaneFilter(w.coefficients, w.clip))
        assert np.array_equal(filter_samples(x, w)[0, 0].numpy(), expected)


@pytest.mark.parametrize("clip", [0, 1, 2, 3])
@pytest.mark.parametrize("classes", [1, 4, 8])
def test_strips_do_not_show(classes, clip, monkeypatch):
    x, w = plane(4, 96, 80), draw(4, classes, 12, clip)
    whole = filter_samples(x, w)
    for strip in (1, 80 * 12, 80 * 52):
        monkeypatch.setattr(loop_filter, "STRIP", strip)
        assert torch.equal(filter_samples(x, w), whole)


@pytest.mark.parametrize("clip", [0, 2])
def test_chroma_may_read_luma(clip, monkeypatch):
    y, uv = plane(5, 96, 160), torch.cat([plane(6, 48, 80), plane(7, 48, 80)], 1)
    f = PlaneFilter(draw(5, 1).coefficients, clip, draw(6, 1).coefficients)
    found = apply_filters(y, uv, (None, f, None))[1]
    fixed = [np.round(p.double().numpy() * 2**FRAC).astype(np.int64) for p in (uv[0, 0], y[0, 0])]
    assert np.array_equal(found[0, 0].numpy(), reference.filter_plane(fixed[0], reference.PlaneFilter(f.coefficients, clip, f.luma), fixed[1]))
    assert not torch.equal(found, apply_filters(y, uv, (None, PlaneFilter(f.coefficients, clip), None))[1])
    assert torch.equal(found, apply_filters(y, uv, (draw(1, 8), f, None))[1]), "luma as it was before it was filtered"
    monkeypatch.setattr(loop_filter, "STRIP", 80 * 12)
    assert torch.equal(found, apply_filters(y, uv, (None, f, None))[1])


def test_halved_luma_is_rounded_half_up():
    y = torch.tensor([[0.0, 2 / 16], [0, 0], [1 / 16, 0], [0, 0]])[None, None]
    assert halved_luma(y).flatten().tolist() == [1, 0]


def test_the_largest_sums_are_exact():
    """All coefficients and samples at their limits, in float32 and in float64."""
    f = PlaneFilter(np.full((1, 12), 31), 0, np.full((1, 12), -31))
    x, y = (torch.where(torch.rand(1, 1, n, n, generator=torch.Generator().manual_seed(n)) < 0.5, 0.0, 255.0) for n in (32, 64))
    assert torch.equal(filter_samples(x, f, halved_luma(y)).double(), filter_samples(x.double(), f, halved_luma(y.double())))
    for sign in (-1, 1):
        w = PlaneFilter(np.full((1, 12), 31 * sign))
        x = torch.where(torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.5, 0.0, 255.0)
        assert torch.equal(filter_samples(x, w).double(), filter_samples(x.double(), w))


def test_without_coefficients_samples_are_rounded_by_way_of_sixteenths():
    x = torch.tensor([0.4, 0.5, 254.46, 254.49, 300, -7]).repeat(64)[None, None].reshape(1, 1, 16, 24)
    assert torch.equal(filter_samples(x, ZEROS), torch.tensor([0, 1, 254, 255, 255, 0.0]).repeat(64).reshape(1, 1, 16, 24))
    y, uv = apply_filters(x, torch.cat([x, x], 1), (None, None, ZEROS))
    assert torch.equal(y[0, 0, 0, :4], torch.tensor([0, 1, 254, 254.0])) and torch.equal(uv[0, 0, 0, :4], y[0, 0, 0, :4])
    assert uv[0, 1, 0, 3] == 255


def test_classes_tell_rough_from_smooth():
    x = loop_filter.to_sixteenths(plane(5, 64, 64))
    classes, _ = block_classes(x)
    assert classes.shape == (16, 16) and (classes[:, :7] == 3).all() and (classes[:, 10:] < 3).all()
    for of_flat in block_classes(torch.full((1, 1, 16, 16), 900.0)):
        assert (of_flat == 0).all()


def stripes(height, width, along):
    """Changing along rows or along columns."""
    wave = 128 + 20 * torch.cos(torch.arange(max(height, width)) * 1.3)
    return (wave[:width].expand(height, width) if along else wave[:height, None].expand(height, width))[None, None].clone()


def test_directions_tell_rows_from_columns():
    for along in (True, False):
        assert (block_classes(loop_filter.to_sixteenths(stripes(32, 48, along)))[1] == 2 - along).all()


@pytest.mark.parametrize("clip", [0, 1, 2, 3])
def test_a_turned_picture_is_filtered_as_the_picture_was(clip):
    """With eight classes, wherever a block has a direction."""
    w = draw(7, 8, 12, clip)
    x = stripes(48, 48, True) + plane(8, 48, 48, 0, 8)
    turned = x.transpose(2, 3).contiguous()
    assert set(block_classes(loop_filter.to_sixteenths(x))[1].flatten().tolist()) <= {1}
    assert torch.equal(filter_samples(turned, w), filter_samples(x, w).transpose(2, 3))
    assert not torch.equal(filter_samples(x, w), filter_samples(x, PlaneFilter(w.coefficients[::2].copy(), clip)))
    pairs = {frozenset((tap, (-tap[0], -tap[1]))) for tap in TAPS}
    assert all(frozenset(((dx, dy), (-dx, -dy))) in pairs and TAPS[TURNED[i]] in ((dx, dy), (-dx, -dy)) for i, (dy, dx) in enumerate(TAPS))


def test_clipped_differences_leave_edges_alone():
    x = torch.full((1, 1, 16, 32), 40.0)
    x[..., 16:] = 200
    w = PlaneFilter(np.array([[31, 0, 0, 0, 31] + [0] * 7]), 1)
    assert (filter_samples(x, w) - x).abs().max() == 1
    assert (filter_samples(x, PlaneFilter(w.coefficients)) - x).abs().max() > 10


def test_a_filter_weighs_both_sides():
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 8, 8] = 128
    for i, (dy, dx) in enumerate(TAPS):
        w = np.zeros((1, 12), np.int64)
        w[0, i] = 16
        out = filter_samples(x, PlaneFilter(w))[0, 0]
        assert out[8 + dy, 8 + dx] == out[8 - dy, 8 - dx] == 16 and out[8, 8] == 96 and out.sum() == 128
