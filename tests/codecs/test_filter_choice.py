"""The encoder's loop filters: they undo what can be undone, and are left out where they are not worth their bits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuralcodec.codecs.filter_choice import choose_filters
from neuralcodec.entropy.filters import LIMIT, FilterState
from neuralcodec.nn.loop_filter import apply_filters


def picture(seed, height=96, width=128):
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(30, 225, (1, 3, height // 8, width // 8)))
    x = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
    return x[:, :1].round().float(), F.avg_pool2d(x[:, 1:], 2).round().float()


def noisy(planes, seed, amount=4.0):
    generator = torch.Generator().manual_seed(seed)
    return tuple((p + amount * torch.randn(p.shape, generator=generator)).mul(2**14).round() / 2**14 for p in planes)


def error(planes, source):
    return sum(float((a - b).square().sum()) for a, b in zip(planes, source, strict=True))


@pytest.mark.parametrize("directed", [False, True])
def test_filters_take_noise_away(directed):
    source = picture(1)
    real = noisy(source, 1)
    chosen = choose_filters(real, source, 0.1, None, True, directed)
    assert all(f is not None and np.abs(f.coefficients).max() <= LIMIT for f in chosen) and [f.classes for f in chosen[1:]] == [1, 1]
    assert directed or (chosen[0].classes <= 4 and not any(f.clip for f in chosen))
    assert error(apply_filters(*real, chosen), source) < 0.5 * error(apply_filters(*real, (None,) * 3), source)


def test_nothing_is_sent_where_it_gains_nothing():
    source = picture(2)
    assert choose_filters(source, source, 10.0, None, True) == (None, None, None)
    assert choose_filters(noisy(source, 2), source, 1e-7, None, True) == (None, None, None)
    assert choose_filters(noisy(source, 2), source, 0.1, FilterState(), False) == (None, None, None)


def test_filters_of_before_are_taken_again():
    source = picture(3)
    sent = choose_filters(noisy(source, 3), source, 0.1, None, True)
    state = FilterState((None, None, None), sent)
    for search in (False, True):
        again = choose_filters(noisy(source, 4), source, 0.01, state, search)
        assert again == sent
    assert choose_filters(source, source, 0.1, state, False) == (None, None, None)


def test_stripes_of_both_ways_are_told_apart():
    """Half of a picture is stripes along rows, half along columns, with the noise that blurs either: it takes eight classes."""
    wave = 128 + 60 * torch.cos(torch.arange(128) * 0.9)
    y = torch.cat([wave.expand(64, 128), wave[:64, None].expand(64, 128)])[None, None].round()
    source = y, torch.full((1, 2, 64, 64), 128.0)
    real = noisy(source, 6, 6.0)
    found = [choose_filters(real, source, 0.2, None, True, directed) for directed in (False, True)]
    assert [f[0].classes for f in found][1] == 8
    errors = [error(apply_filters(*real, f), source) for f in found]
    assert errors[1] < 0.9 * errors[0]


def test_chroma_learns_from_luma():
    """Chroma that is half of luma, less its detail."""
    y, _ = picture(8)
    y = (y + 20 * torch.randn(y.shape, generator=torch.Generator().manual_seed(8))).round().clamp(0, 255)
    half = F.avg_pool2d(y, 2)
    chroma, blurred = (half / 2).round(), F.avg_pool2d(F.pad(half, (1, 1, 1, 1), mode="replicate"), 3, 1) / 2
    source, real = (y, chroma.repeat(1, 2, 1, 1)), (y, blurred.mul(2**14).round().div(2**14).repeat(1, 2, 1, 1))
    plain, directed = (choose_filters(real, source, 0.5, None, True, d) for d in (False, True))
    assert directed[1].luma is not None and directed[0] is None
    assert error(apply_filters(*real, directed), source) < 0.5 * error(apply_filters(*real, plain), source)


def test_differences_are_clipped_where_edges_are_sharp():
    """Noise of two samples beside edges of a hundred: what smooths the one would blur the other."""
    tiles = torch.from_numpy(np.random.default_rng(7).choice([60.0, 180.0], (1, 1, 24, 32))).float()
    y = F.interpolate(tiles, scale_factor=4, mode="nearest")
    source = y, torch.full((1, 2, 48, 64), 128.0)
    real = noisy(source, 7, 1.5)
    plain, clipped = (choose_filters(real, source, 0.5, None, True, directed) for directed in (False, True))
    assert clipped[0].clip
    assert not any(f is not None and f.clip for f in choose_filters(real, source, 0.5, None, True, True, clipped=False))
    assert error(apply_filters(*real, clipped), source) < 0.8 * error(apply_filters(*real, plain), source)


@pytest.mark.parametrize("size", [(16, 16), (400, 640)])
def test_they_do_not_depend_on_threads(size):
    source = picture(5, *size)
    real, found, threads = noisy(source, 5), [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(choose_filters(real, source, 0.1, None, True, True))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
