"""The encoder's loop filters: they undo what can be undone, and are left out where they are not worth their bits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuralcodec.codecs.filter_choice import choose_filters
from neuralcodec.entropy.filters import LIMIT, FilterState, same
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


def test_filters_take_noise_away():
    source = picture(1)
    real = noisy(source, 1)
    chosen = choose_filters(real, source, 0.1, None, True)
    assert all(c is not None and np.abs(c).max() <= LIMIT for c in chosen) and [len(c) for c in chosen[1:]] == [1, 1]
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
        assert all(same(a, b) for a, b in zip(again, sent, strict=True))
    assert choose_filters(source, source, 0.1, state, False) == (None, None, None)


@pytest.mark.parametrize("size", [(16, 16), (400, 640)])
def test_they_do_not_depend_on_threads(size):
    source = picture(5, *size)
    real, found, threads = noisy(source, 5), [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(choose_filters(real, source, 0.1, None, True))
    finally:
        torch.set_num_threads(threads)
    assert all(same(a, b) for a, b in zip(*found, strict=True))
