"""RGB and 4:2:0 of stills: against plain formulas in real numbers, in strips, without a shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from neuralcodec.core.types import ColourTags
from neuralcodec.media.pixels import rgb_of
from neuralcodec.media.still_colour import SRGB, full_chroma_of_rows, halve_chroma, planes_of_rows, rgb_strips

FORWARD = np.array([[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]])
LIMITED = FORWARD * [[219 / 255], [224 / 255], [224 / 255]]
FULL = replace(SRGB, full_range=True)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / 19 + k) * np.cos(y / 23 + 2 * k) for k in range(3)]
    return np.stack(waves, -1).round().astype(np.uint8)


def to_planes(rgb: np.ndarray):
    return planes_of_rows([rgb[..., c] for c in range(3)], 0, 0)


def to_rgb(planes, colour=SRGB) -> np.ndarray:
    return np.concatenate([strip for _, strip in rgb_strips(planes, colour)])


def halved(x: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        x = np.pad(x, [(1, 1 + len(x) % 2), *[(0, 0)] * (x.ndim - 1)], mode="edge")
        n = (len(x) - 2) // 2 * 2
        x = np.moveaxis((9 * (x[1 : 1 + n : 2] + x[2 : 2 + n : 2]) - x[0:n:2] - x[3 : 3 + n : 2]) / 16, 0, axis)
    return x


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 5), (16, 17), (67, 32), (130, 70)])
def test_planes_are_the_formula_rounded(size):
    rgb = noise(*size)
    y, u, v = to_planes(rgb)
    full = rgb @ LIMITED.T
    assert y.shape == size and u.shape == v.shape == tuple(-(-n // 2) for n in size)
    assert np.abs(y - 16 - full[..., 0]).max() <= 0.502
    for plane, chroma in ((u, full[..., 1]), (v, full[..., 2])):
        assert np.abs(plane - np.clip(halved(chroma) + 128, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("height", [64, 65, 130])
def test_strips_give_what_the_whole_gives(height):
    rgb = noise(height, 37)
    whole = to_planes(rgb)
    for top in range(0, height, 32):
        bottom = min(top + 32, height)
        above, below = int(top > 0), int(bottom < height)
        part = planes_of_rows([rgb[top - above : bottom + below, :, c] for c in range(3)], above, below)
        for a, b, step in zip(part, whole, (1, 2, 2), strict=True):
            assert np.array_equal(a, b[top // step : -(-bottom // step)])


@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
def test_a_smooth_picture_comes_back(size):
    rgb = smooth(*size)
    error = to_rgb(to_planes(rgb)).astype(int) - rgb
    assert np.abs(error[2:-2, 2:-2]).max() <= 4 and np.abs(error.mean((0, 1))).max() < 0.2


def test_chroma_does_not_move_in_ten_generations():
    rgb = smooth(80, 80)
    again = rgb
    for _ in range(10):
        again = to_rgb(to_planes(again))
    chroma = [(p[..., 0].astype(float) - p[..., 1])[20:60, 20:60] for p in (rgb, again)]
    for axis in (0, 1):
        slope = np.gradient(chroma[0], axis=axis)
        assert abs((slope * (chroma[1] - chroma[0])).sum() / (slope**2).sum()) < 0.01  # samples of displacement


def test_gray_and_extreme_colours_stay():
    for colour in ((0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255)):
        rgb = np.broadcast_to(np.uint8(colour), (6, 8, 3))
        assert np.abs(to_rgb(to_planes(rgb)).astype(int) - rgb).max() <= 1


def test_the_conversion_is_that_of_jpeg_over_the_limited_range():
    rgb = noise(20, 30)
    y = np.asarray(Image.fromarray(rgb).convert("YCbCr"))[..., 0].astype(float)
    assert np.abs(to_planes(rgb)[0] - (16 + y * 219 / 255)).max() < 1.5
    white = np.full((4, 4, 3), 255, np.uint8)
    assert [int(p.max()) for p in to_planes(white)] == [235, 128, 128] and to_planes(0 * white)[0].max() == 16


@pytest.mark.parametrize("tags", [ColourTags(matrix=1, full_range=False), ColourTags(matrix=6, full_range=None), ColourTags(matrix=9, full_range=True)])
def test_other_tags_are_obeyed(tags):
    planes = to_planes(smooth(48, 64))
    difference = to_rgb(planes, tags).astype(int) - rgb_of(planes, tags)
    assert np.abs(difference).max() <= 6 and np.abs(difference).mean() < 1


def test_planes_of_one_size_need_no_filter():
    planes = tuple(noise(9, 11)[..., c] for c in range(3))
    y, _, v = (p.astype(float) for p in planes)
    red = np.clip(y + 1.402 * (v - 128), 0, 255)
    assert np.abs(to_rgb(planes, FULL)[..., 0] - red).max() <= 0.51
    red = np.clip((y - 16) * 255 / 219 + 1.402 * 255 / 224 * (v - 128), 0, 255)
    assert np.abs(to_rgb(planes)[..., 0] - red).max() <= 0.51


def test_full_chroma_is_the_formula_and_halves_to_that_of_420():
    rgb = np.random.default_rng(5).integers(0, 256, (3, 12, 18)).astype(np.uint8)
    smooth = [np.kron(c[::4, ::4], np.ones((4, 4))).astype(np.uint8)[:12, :18] for c in rgb]
    r, g, b = (c.astype(float) for c in rgb)
    u, v = full_chroma_of_rows(list(rgb))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    for plane, wanted in ((u, 128 + (b - y) / 1.772 * 224 / 255), (v, 128 + (r - y) / 1.402 * 224 / 255)):
        assert np.abs(plane - wanted.clip(0, 255)).max() <= 0.51
    halves = [halve_chroma(plane) for plane in full_chroma_of_rows(smooth)]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(halves, planes_of_rows(smooth, 0, 0)[1:], strict=True))
