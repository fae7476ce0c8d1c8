"""PSNR against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuralcodec.bench.metrics import clip_psnr, frame_psnr, mean_psnr, plane_psnr
from neuralcodec.core.errors import MeasureError


def planes(y=0, u=0, v=0, height=3, width=5):
    chroma = (-(-height // 2), -(-width // 2))
    return tuple(np.full(shape, value, np.uint8) for shape, value in (((height, width), y), (chroma, u), (chroma, v)))


def test_planes():
    a, b = planes(255)[0], planes(0)[0]
    assert plane_psnr(a, b) == pytest.approx(0)
    assert plane_psnr(b, a) == pytest.approx(0)
    assert plane_psnr(a, a) == 100
    c = a.copy()
    c[1, 2] -= 3  # a squared error of 9 over 15 samples
    assert plane_psnr(a, c) == pytest.approx(10 * math.log10(255**2 * 15 / 9))


def test_planes_are_weighted_6_1_1():
    result = frame_psnr(planes(10, 20, 30), planes(11, 22, 40))
    y, u, v = (20 * math.log10(255 / e) for e in (1, 2, 10))
    assert result == pytest.approx((y, u, v, (6 * y + u + v) / 8))


def test_a_clip_is_the_mean_of_its_frames_psnr_and_not_the_psnr_of_its_mean_error():
    source = [planes(100)] * 2
    result = mean_psnr(clip_psnr(source, [planes(101), planes(110)]))
    assert result.y == pytest.approx((20 * math.log10(255) + 20 * math.log10(25.5)) / 2)
    assert result.u == 100


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(MeasureError, match="frame count: 2 in, 1 out"):
        clip_psnr([planes()] * 2, [planes()])
    with pytest.raises(MeasureError, match="5x3 and 6x3"):
        clip_psnr([planes()], [planes(width=6)])
    with pytest.raises(MeasureError, match="no frames"):
        clip_psnr([], [])
