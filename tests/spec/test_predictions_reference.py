"""Predictions by cell, of the product and of the reference decoder."""

import numpy as np
import pytest
import torch
from reference import motion

from neuralcodec.nn.hypotheses import Doubled, Past, Step, apply_choices, predict, ways_back


def steps(height, width):
    rng = np.random.default_rng(height)
    for scale in (100, 300, 9000, 500, 50):
        vectors = np.clip(rng.normal(0, scale, (2, height // 8, width // 8)), -8192, 8192).astype(np.int64)
        y, u, v = rng.integers(0, 256, (height, width)), *rng.integers(0, 256, (2, height // 2, width // 2))
        yield vectors, (y, u, v)


def ours(step):
    vectors, (y, u, v) = step
    planes = torch.from_numpy(y).float()[None, None], torch.from_numpy(np.stack([u, v])).float()[None]
    return Step(torch.from_numpy(vectors.astype(np.int32))[None], Doubled(*planes))


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (80, 112)], ids=str)
@pytest.mark.parametrize(("known", "lasting"), [(0, True), (1, False), (2, False), (2, True)])
def test_predictions_are_the_same(size, known, lasting):
    first, *before = steps(*size)
    theirs = motion.Past(tuple(before[:2][:known]), tuple(before[2:][:known]), lasting) if known else motion.Past()
    mine = Past(*(tuple(map(ours, part[:known])) for part in (before[:2], before[2:])), lasting) if known else Past()
    choices = np.random.default_rng(1).integers(0, 10, (size[0] // 16, size[1] // 16))
    ways = ways_back(ours(first), mine)
    y, uv = apply_choices(predict(ways.first), torch.from_numpy(choices), ways)
    expected, past = motion.predict(first, theirs, choices, True)
    for plane, other in zip((y[0, 0], *uv[0]), expected, strict=True):
        assert np.array_equal((plane.double() * 2**14).numpy(), other)
    own = ways.past(mine, True)
    assert past.lasting and own.lasting and len(past.steps) == len(own.steps)
    assert all(np.array_equal(a.vectors[0], b[0]) for a, b in zip(own.long, past.long, strict=True))
