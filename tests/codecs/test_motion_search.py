"""The encoder's motion search on pictures whose motion is known."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuralcodec.codecs import motion_search
from neuralcodec.codecs.estimation import CELL, estimate_flow
from neuralcodec.codecs.motion_search import MotionSearch, quantiser_step
from neuralcodec.nn.compensation import compensate

FINE, COARSE = torch.full((1, 1, 1, 1), 6.5), torch.full((1, 1, 1, 1), 104.0)
"""Quantiser steps in samples."""


def texture(seed: int, size: int = 96) -> torch.Tensor:
    """Smooth random luma (1, 1, size, size)."""
    noise = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (1, 1, size // 4, size // 4))).float()
    return F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 255)


def cells(x: float, y: float, size: int = 96) -> torch.Tensor:
    return torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(1, 2, size // CELL, size // CELL).contiguous()


def predict(reference, vectors):
    return compensate(reference, torch.zeros(1, 2, *(n // 2 for n in reference.shape[2:])), vectors)[0]


def inside(x):
    return x[..., 2:-2, 2:-2]  # what moved in over the border cannot be found


@pytest.mark.parametrize("motion", [(0.5, -0.25), (1.75, 1.0), (-1.25, 0.5)])
def test_motion_is_found_to_a_fraction_of_a_sample(motion):
    reference = texture(1)
    current = predict(reference, cells(*motion))
    start = cells(round(motion[0]), round(motion[1]))
    vectors, _ = MotionSearch(current, reference, FINE).search([start, torch.zeros_like(start)], iterations=6)
    error = inside(vectors - cells(*motion)).abs()
    assert error.mean() < 0.1 < inside(start - cells(*motion)).abs().mean()


def test_the_better_candidate_is_taken_for_each_cell():
    reference = texture(2)
    truth = cells(0, 0).clone()
    truth[:, 0, :, 6:] = 9.0
    current = predict(reference, truth)
    vectors, _ = MotionSearch(current, reference, FINE).search([cells(0, 0), cells(9, 0)])
    assert vectors[0, 0, :, :4].abs().max() < 1
    assert (vectors[0, 0, 2:-2, 8:10] - 9).abs().max() < 1


def test_where_bits_are_dear_vectors_are_smooth():
    rng = torch.Generator().manual_seed(3)
    reference = texture(3)
    current = (reference + 12 * torch.randn(reference.shape, generator=rng)).clamp(0, 255)
    rough = []
    for step in (COARSE, FINE):
        vectors, _ = MotionSearch(current, reference, step).search([cells(0, 0)], iterations=4)
        rough.append(float((vectors[..., 1:] - vectors[..., :-1]).abs().mean()))
    assert rough[0] < 0.5 * rough[1]


def test_vectors_follow_a_region_however_smooth_they_have_to_be():
    """What was decoded before lies a little off what was shot: by 0.25 samples here, and nothing in the flow between source pictures says so."""
    reference = 128 + 0.2 * (texture(6, 192) - 128)
    current = predict(reference, cells(0.25, -0.25, 192))
    vectors, _ = MotionSearch(current, reference, torch.full((1, 1, 1, 1), 25.0)).search([cells(0, 0, 192)])
    assert inside(vectors - cells(0.25, -0.25, 192)).abs().mean() < 0.02


def test_noise_moves_vectors_less_where_the_flow_stands_still(monkeypatch):
    rng = torch.Generator().manual_seed(8)
    reference = 128 + 0.1 * (texture(8, 192) - 128)
    current = (reference + 3 * torch.randn(reference.shape, generator=rng)).clamp(0, 255)
    restless = 0.1 * torch.randn(1, 2, 24, 24, generator=rng)
    step = torch.full((1, 1, 1, 1), 10.0)
    still, moving = (motion_search._smoothness(flow, step) for flow in (cells(0, 0, 192), restless))
    assert still.min() > 5 * moving.max()

    def moved() -> float:
        return float(MotionSearch(current, reference, step).search([cells(0, 0, 192)], iterations=4)[0].square().mean())

    smooth = moved()
    monkeypatch.setattr(motion_search, "_smoothness", lambda flow, step: moving)
    assert smooth < 0.5 * moved()


def test_sensitivity_tells_what_an_error_costs():
    """The luma error of a vector that is 0.25 samples off, against the quadratic it is said to be."""
    reference = texture(4)
    _, sensitivity = MotionSearch(reference, reference, FINE).search([cells(0, 0)])
    for component in range(2):
        off = cells(*(0.25 * np.eye(2)[component]))
        real = float((predict(reference, off) - reference).square().sum())
        said = float(sensitivity[:, component].sum()) * 0.25**2
        assert 0.7 < said / real < 1.4


def test_a_batch_is_its_pictures():
    current, reference = (torch.cat([texture(s), texture(s + 1)]) for s in (5, 7))
    candidates = [torch.cat([cells(0.5, 1), cells(2, 0)]), torch.zeros(2, 2, 12, 12)]
    steps = quantiser_step(torch.tensor([40, 160]))
    both, _ = MotionSearch(current, reference, steps).search(candidates)
    for i in range(2):
        one, _ = MotionSearch(current[i : i + 1], reference[i : i + 1], steps[i : i + 1]).search([c[i : i + 1] for c in candidates])
        torch.testing.assert_close(both[i : i + 1], one, atol=1e-3, rtol=1e-4)


def test_the_quantiser_s_step_falls_with_quality():
    steps = quantiser_step(torch.arange(201)).flatten()
    assert (steps.diff() < 0).all()
    assert 2.5 < steps[-1] < 3
    assert 100 < steps[0] < 110
    former = quantiser_step(torch.arange(201), (1.3, 5.3)).flatten()
    assert former[0] == steps[0] and 6 < former[-1] < 7


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (120, 176), (128, 160)])
def test_flow_does_not_depend_on_the_pictures_before(size):
    def pair(height: int, width: int) -> list[np.ndarray]:
        wide = texture(3, 384)[0, 0, :height, : width + 2].round().numpy().astype(np.uint8)
        return [wide[:, 2:], wide[:, :-2]]

    def flows(*sizes: tuple[int, int]) -> list[np.ndarray]:
        with ThreadPoolExecutor(1) as thread:  # one that has seen nothing yet
            return list(thread.map(lambda s: estimate_flow(*pair(*s)), sizes))

    first, small = flows((240, 352), size)
    assert all(np.array_equal(a, b) for a, b in zip(flows(size, (240, 352)), (small, first), strict=True))
    assert np.abs(np.median(first, (0, 1)) - (2, 0)).max() < 0.1
