"""The temporal filter on pictures of which it is known what they have in common."""

import torch

from neuralcodec.codecs.temporal_filter import REACH, filter_picture

STEP = 16.0


def shapes(shift: int = 0) -> torch.Tensor:
    """Smooth luma (1, 1, 96, 128) of a pan, 40..215."""
    coarse = torch.rand(1, 1, 6, 16, generator=torch.Generator().manual_seed(0)) * 175 + 40
    wide = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bilinear")
    return wide[..., 32 + shift : 160 + shift].round()


def noisy(y: torch.Tensor, seed: int, deviation: float = 3.0) -> torch.Tensor:
    return (y + deviation * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))).round().clamp(0, 255)


def chroma(y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(y, 2).round().expand(1, 2, -1, -1)


def filtered(y: torch.Tensor, others: list[torch.Tensor], lasting: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    return filter_picture(y, chroma(y), [(i + 1, o, chroma(o)) for i, o in enumerate(others)], STEP, lasting)


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


def test_noise_is_averaged_away_in_luma_and_chroma():
    clean = shapes()
    first = noisy(clean, 100)
    y, uv = filtered(first, [noisy(clean, i) for i in range(REACH)])
    assert error(y, clean) < 0.45 * error(first, clean)
    assert error(uv, chroma(clean)) < 0.6 * error(chroma(first), chroma(clean))
    assert torch.equal(y, y.round()) and 0 <= y.min() and y.max() <= 255


def test_along_motion():
    clean = shapes()
    first = noisy(clean, 100)
    y, _ = filtered(first, [noisy(shapes(2 * (i + 1)), i) for i in range(REACH)])
    assert error(y, clean) < 0.6 * error(first, clean)


def test_what_is_unlike_the_picture_leaves_it_as_it_is():
    first = noisy(shapes(), 100)
    y, uv = filtered(first, [torch.full_like(first, 255.0), torch.zeros_like(first)])
    assert error(y, first) < 0.2 and error(uv, chroma(first)) < 0.2


def test_a_picture_that_does_not_last_is_not_filtered():
    first = noisy(shapes(), 100)
    y, uv = filtered(first, [noisy(shapes(), 1)], lasting=0.0)
    assert torch.equal(y, first) and torch.equal(uv, chroma(first))
    assert torch.equal(filtered(first, [])[0], first), "no neighbours"
    assert error(filtered(first, [noisy(shapes(), 1)], lasting=0.1)[0], first) < error(filtered(first, [noisy(shapes(), 1)], lasting=1.0)[0], first)


def test_small_pictures():
    y = torch.full((1, 1, 16, 16), 100.0)
    assert torch.equal(filtered(y, [y + 2])[0].round(), torch.full_like(y, 101.0))
