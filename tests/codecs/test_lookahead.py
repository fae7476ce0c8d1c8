"""The lookahead on pictures of which it is known what lasts."""

import math

import pytest
import torch

from neuralcodec.codecs.lookahead import Lookahead, octaves_better


def noise(seed: int) -> torch.Tensor:
    return torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(seed)).repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :96, :128] * 255


def lasting(pictures) -> float:
    lookahead = Lookahead()
    for picture in pictures:
        lookahead.add(picture)
    return lookahead.lasting()


@pytest.mark.parametrize("count", [1, 2, 8, 32])
def test_what_stays_serves_all_frames(count):
    assert lasting([noise(0)] * count) == pytest.approx(math.log2(count), abs=0.02)


def test_what_goes_serves_its_own_frame():
    assert lasting(noise(i) for i in range(8)) < 0.4


def test_what_moves_lasts():
    wide = torch.cat([noise(1), noise(2)], 3)
    panned = [wide[..., 4 * i : 4 * i + 128] for i in range(6)]
    assert 1.2 < lasting(panned) <= math.log2(6)


def test_half_of_a_picture():
    half = [torch.cat([noise(0)[..., :64], noise(i)[..., 64:]], 3) for i in range(8)]
    assert 0.35 * 3 < lasting(half) < 0.65 * 3


def test_after_a_cut_nothing_is_left():
    assert lasting([noise(0)] * 4 + [noise(1)] * 4) == pytest.approx(2, abs=0.25)


def test_flat_pictures_and_small_ones():
    flat = torch.full((1, 1, 16, 16), 100.0)
    assert 0 <= lasting([flat] * 3) <= math.log2(3)
    assert lasting([flat]) == 0 == lasting([])


def test_the_longer_it_lasts_the_better():
    assert 0 < octaves_better(0) < octaves_better(1) < octaves_better(5) < 2.5
