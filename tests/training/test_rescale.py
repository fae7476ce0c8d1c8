"""Scale jitter of training samples."""

from __future__ import annotations

import numpy as np
import pytest

from neuralcodec.training.rescale import draw_side, rescale


@pytest.mark.parametrize("side", [48, 64, 96])
def test_pictures_chroma_and_vectors_are_resized_alike(side: int) -> None:
    ramp = np.arange(side, dtype=np.uint8)
    y = np.tile(ramp, (3, side, 1))
    uv = np.tile(ramp[: side // 2], (3, 2, side // 2, 1))
    flow = np.full((2, 2, side // 8, side // 8), (-3.0), np.float32)
    y2, uv2, flow2 = rescale(y, uv, flow, 64)
    assert (y2.shape, uv2.shape, flow2.shape) == ((3, 64, 64), (3, 2, 32, 32), (2, 2, 8, 8))
    assert y2.dtype == uv2.dtype == np.uint8 and flow2.dtype == np.float32
    # A ramp of one level a sample is one of side / 64 levels a sample then; vectors shrink or grow with the picture.
    slope = side / 64
    assert np.abs(y2[1, 5, 4:-4] - ((np.arange(64) + 0.5) * slope - 0.5)[4:-4]).max() <= 1
    assert np.abs(uv2[2, 1, 9, 4:-4] - ((np.arange(32) + 0.5) * slope - 0.5)[4:-4]).max() <= 1
    assert np.allclose(flow2, -3 / slope)


def test_without_flow_there_is_none() -> None:
    assert rescale(np.zeros((1, 48, 48), np.uint8), np.zeros((1, 2, 24, 24), np.uint8), None, 64)[2] is None


def test_sides_spread_over_the_range_and_fit_the_clip() -> None:
    rng = np.random.default_rng(1)
    sides = [draw_side(rng, 128, 0.25, 256) for _ in range(300)]
    assert all(s % 8 == 0 for s in sides)
    assert min(sides) in (96, 104) and max(sides) in (160, 168)
    assert max(draw_side(rng, 128, 1.0, 150) for _ in range(100)) == 144
    assert min(draw_side(rng, 16, 1.0, 150) for _ in range(100)) == 8
