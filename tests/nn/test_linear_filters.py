"""Loop filters in real numbers: what decoders do, but for rounding, with gradients."""

import numpy as np
import pytest
import torch

from neuralcodec.core.types import PlaneFilter
from neuralcodec.nn.linear_filters import LinearFilters
from neuralcodec.nn.loop_filter import apply_filters


def planes(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth ones, whose filtered samples are not cut off, rough on the right; of blocks with all directions."""
    random = torch.Generator().manual_seed(seed)
    y, uv = (120 + 20 * torch.rand(1, c, h, w, generator=random).cumsum(2).remainder(1.5) for c, h, w in ((1, 24, 40), (2, 12, 20)))
    y[..., 20:] += 15 * torch.rand(24, 20, generator=random)
    y[..., :8, :] += 20 * (torch.arange(40) % 2)
    y[..., 16:, :] += 20 * (torch.arange(8)[:, None] % 2)
    return y, uv


def draw(seed: int, classes: int, luma: bool = False) -> PlaneFilter:
    random = np.random.default_rng(seed)
    return PlaneFilter(random.integers(-6, 7, (classes, 12)), 0, random.integers(-6, 7, (1, 12)) if luma else None)


@pytest.mark.parametrize("classes", [1, 2, 4, 8])
def test_they_are_those_of_decoders_but_for_rounding(classes):
    y, uv = planes(classes)
    for filters in ((draw(1, classes), None, draw(2, 1)), (None, draw(3, 1, luma=True), None), (draw(4, classes), draw(5, 1, luma=True), draw(6, 1, luma=True))):
        expected, found = apply_filters(y, uv, filters), LinearFilters(y, filters)(y, uv)
        for a, b in zip(expected, found, strict=True):
            assert 1 < a.min() and a.max() < 254 and (a - b).abs().max() < 0.75  # to samples, and to sixteenths before
    assert (found[0] - y).abs().mean() > 0.5


def test_classes_stay_and_gradients_pass():
    y, uv = planes(9)
    linear = LinearFilters(y, (draw(1, 8), draw(2, 1, luma=True), None))
    luma, chroma = (t.clone().requires_grad_() for t in planes(10))
    both = linear(luma, chroma)
    (both[0].square().sum() + both[1].sum()).backward()
    assert luma.grad.isfinite().all() and torch.equal(chroma.grad[:, 1], torch.ones(1, 12, 20))
    # Linear: whatever the picture, a change adds the same.
    change = torch.zeros_like(y)
    change[..., 10, 10] = 8.0
    for at in (y, torch.full_like(y, 100.0)):
        added = linear(at + change, uv)[0] - linear(at, uv)[0]
        assert torch.allclose(added, linear(change, uv)[0], atol=1e-3)
