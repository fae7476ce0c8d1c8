"""Graphics over training samples: they stay where they are, have sharp edges and colours, and leave most samples of a clip alone."""

import numpy as np
import torch

from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.graphics import draw_graphics


def gray(frames: int = 3, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    y = np.full((frames, size, size), 120, np.uint8)
    y += np.arange(frames, dtype=np.uint8)[:, None, None]
    return y, np.full((frames, 2, size // 2, size // 2), 128, np.uint8)


def test_shapes_do_not_move_and_cover_the_same_in_chroma():
    changed, coloured, edges = 0, 0, 0
    for seed in range(30):
        y, uv = gray()
        luma, chroma = draw_graphics(np.random.default_rng(seed), y, uv)
        assert luma.dtype == chroma.dtype == np.uint8 and luma.shape == y.shape and chroma.shape == uv.shape
        where = luma != y
        inside = where.all(0)
        assert (where == where[0]).mean() > 0.98  # but for what is as bright as the colour by chance
        half = where.any(0).reshape(48, 2, 48, 2).any((1, 3))
        assert not (chroma[0] != 128).any(0)[~half].mean() > 0.02
        changed += inside.any()
        coloured += np.abs(chroma.astype(int) - 128).max() > 20
        edges += np.abs(np.diff(luma[0].astype(int), axis=1)).max() > 40
    assert changed > 27 and coloured > 10 and edges > 20


def test_the_same_numbers_draw_the_same_and_the_input_stays():
    y, uv = gray()
    first, second = (draw_graphics(np.random.default_rng(4), y, uv) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(y, gray()[0]) and np.array_equal(uv, gray()[1])


def test_so_many_samples_have_them():
    frames = np.random.default_rng(0).integers(100, 156, (4, 96, 64), np.uint8)
    clips = Clips(frames, [4])
    plain, drawn = Sampler([clips], 5, gamma=0.0), Sampler([clips], 5, gamma=0.0, graphics=0.25)
    changed = 0
    for _ in range(60):
        state = plain.rng.bit_generator.state
        before = plain.batch(64, 1, 2)
        drawn.rng.bit_generator.state = state
        changed += not torch.equal(before.y, drawn.batch(64, 1, 2).y)
    assert 6 < changed < 26
