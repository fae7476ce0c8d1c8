"""Predictions by cell, of the product and of the reference decoder."""

import numpy as np
import pytest
import torch
from reference import motion

from neuralcodec.nn.hypotheses import Doubled, Step, apply_choices, predict, steps_back


def steps(height, width):
    rng = np.random.default_rng(height)
    for scale in (100, 300, 9000):
        vectors = np.clip(rng.normal(0, scale, (2, height // 8, width // 8)), -8192, 8192).astype(np.int64)
        y, u, v = rng.integers(0, 256, (height, width)), *rng.integers(0, 256, (2, height // 2, width // 2))
        yield vectors, (y, u, v)


def ours(step):
    vectors, (y, u, v) = step
    planes = torch.from_numpy(y).float()[None, None], torch.from_numpy(np.stack([u, v])).float()[None]
    return Step(torch.from_numpy(vectors.astype(np.int32))[None], Doubled(*planes))


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (80, 112)], ids=str)
@pytest.mark.parametrize("known", [0, 1, 2])
def test_predictions_are_the_same(size, known):
    first, *trail = steps(*size)
    trail = trail[:known]
    choices = np.random.default_rng(1).integers(0, 6, (size[0] // 16, size[1] // 16))
    y, uv = apply_choices(predict(ours(first)), torch.from_numpy(choices), steps_back(ours(first), tuple(map(ours, trail))))
    for plane, expected in zip((y[0, 0], *uv[0]), motion.predict(first, trail, choices), strict=True):
        assert np.array_equal((plane.double() * 2**14).numpy(), expected)
