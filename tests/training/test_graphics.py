"""Graphics over training samples: they stay where they are, have sharp edges and colours."""

import numpy as np

from neuralcodec.training.graphics import draw_graphics


def gray(frames: int = 3, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    y = np.full((frames, size, size), 120, np.uint8)
    y += np.arange(frames, dtype=np.uint8)[:, None, None]
    return y, np.full((frames, 2, size // 2, size // 2), 128, np.uint8)


def test_shapes_do_not_move_and_cover_the_same_in_chroma():
    changed, coloured, edges, still = 0, 0, 0, []
    for seed in range(30):
        y, uv = gray()
        luma, chroma = draw_graphics(np.random.default_rng(seed), y, uv)
        assert luma.dtype == chroma.dtype == np.uint8 and luma.shape == y.shape and chroma.shape == uv.shape
        where = luma != y
        inside = where.all(0)
        still.append((where == where[0]).mean())  # all, but for a frame that is as bright as the colour by chance
        half = where.any(0).reshape(48, 2, 48, 2).any((1, 3))
        assert (chroma[0] != 128).any(0)[~half].mean() < 0.02
        changed += inside.any()
        coloured += np.abs(chroma.astype(int) - 128).max() > 20
        edges += np.abs(np.diff(luma[0].astype(int), axis=1)).max() > 40
    assert changed > 27 and coloured > 10 and edges > 20 and np.median(still) > 0.999


def test_the_same_numbers_draw_the_same_and_the_input_stays():
    y, uv = gray()
    first, second = (draw_graphics(np.random.default_rng(4), y, uv) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(y, gray()[0]) and np.array_equal(uv, gray()[1])
