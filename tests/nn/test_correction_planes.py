"""Corrections of decoded planes: the same integers as the reference decoder's, with loop filters and without."""

import numpy as np
import pytest
import torch

from bitstream_spec.reference import corrections as reference
from bitstream_spec.reference import filters as reference_filters
from neuralcodec.core.types import PlaneCorrections, PlaneFilter
from neuralcodec.nn import loop_filter
from neuralcodec.nn.corrections import COSINES, LIMIT, STEP_SIZES, block_samples, correction_plane
from neuralcodec.nn.loop_filter import apply_filters, filtered_sixteenths, halved_luma

FRAC = 14


def plane(seed, height, width):
    x = np.random.default_rng(seed).uniform(-20, 275, (height, width))
    return torch.from_numpy(np.round(x * 2**FRAC) / 2**FRAC).float()[None, None]


def draw(seed, height, width, largest=40):
    rng = np.random.default_rng(seed)
    where = np.flatnonzero(rng.random(height * width // 16) < 0.4)
    return PlaneCorrections(int(rng.integers(0, 32)), where, rng.random(len(where)) < 0.5, rng.integers(-largest, largest + 1, (len(where), 4, 4)))


def to_reference(c):
    return reference.Corrected(c.step, dict(zip(c.where.tolist(), zip(c.plain.tolist(), c.levels, strict=True), strict=True)))


@pytest.mark.parametrize("largest", [1, 40, 4095])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 32), (48, 80)])
def test_the_reference_decoder_adds_the_same(height, width, largest):
    for seed in range(12):
        c = draw(seed, height, width, largest)
        assert np.array_equal(correction_plane(c, height, width).numpy(), reference.correction(to_reference(c), height, width))


def test_a_transform_is_what_it_is_called():
    """A level of 1 at the first place lifts the block by a quarter of a step; levels of an orthonormal transform give its inverse, to a sixteenth of a sample."""
    step = 16
    levels = np.zeros((1, 4, 4), np.int64)
    levels[0, 0, 0] = 4
    assert (block_samples(PlaneCorrections(step, np.array([0]), np.array([False]), levels)) == STEP_SIZES[step]).all()
    rng = np.random.default_rng(1)
    levels = rng.integers(-5, 6, (20, 4, 4))
    orthonormal = COSINES / np.linalg.norm(COSINES, axis=1, keepdims=True)
    exact = orthonormal.T @ (levels * STEP_SIZES[8]) @ orthonormal
    found = block_samples(PlaneCorrections(8, np.arange(20), np.zeros(20, bool), levels))
    assert np.abs(found - exact).max() < 1.5
    plain = block_samples(PlaneCorrections(8, np.arange(20), np.ones(20, bool), levels))
    assert (plain == levels * STEP_SIZES[8]).all()
    assert np.abs(block_samples(PlaneCorrections(31, np.arange(20), np.ones(20, bool), 4095 * np.sign(levels)))).max() == LIMIT


@pytest.mark.parametrize("classes", [None, 1, 8])
def test_filtered_planes_are_corrected_before_they_are_rounded(classes, monkeypatch):
    height, width = 96, 80
    x, c = plane(3, height, width), draw(3, height, width, 2)
    f = None if classes is None else PlaneFilter(np.random.default_rng(4).integers(-9, 10, (classes, 12)), 1)
    none = torch.zeros(1, 2, height // 2, width // 2)
    found = apply_filters(x, none, (f, None, None), (c, None, None))[0]
    fixed, added = np.round(x[0, 0].double().numpy() * 2**FRAC).astype(np.int64), reference.correction(to_reference(c), height, width)
    if f is None:
        expected = np.clip((reference_filters.sixteenths(fixed) + added + 8) >> 4, 0, 255)
    else:
        expected = reference_filters.filter_plane(fixed, reference_filters.PlaneFilter(f.coefficients, f.clip), None, added)
    assert np.array_equal(found[0, 0].numpy(), expected)
    assert not torch.equal(found, apply_filters(x, none, (f, None, None))[0])
    monkeypatch.setattr(loop_filter, "STRIP", 80 * 12)
    assert torch.equal(found, apply_filters(x, none, (f, None, None), (c, None, None))[0])
    sixteenths = filtered_sixteenths(x, f)[0, 0].double().numpy()
    assert np.array_equal(np.clip(np.floor((sixteenths + added) / 16 + 0.5), 0, 255), expected), "what an encoder measures errors of"


def test_the_largest_sums_are_exact():
    """All coefficients, samples and corrections at their limits, in float32 and in float64."""
    y = 255.0 * torch.from_numpy(np.random.default_rng(1).integers(0, 2, (1, 1, 32, 32))).float()
    x = 255.0 * torch.from_numpy(np.random.default_rng(2).integers(0, 2, (1, 1, 16, 16))).float()
    f = PlaneFilter(np.full((1, 12), 31), 0, np.full((1, 12), -31))
    c = PlaneCorrections(31, np.arange(16), np.ones(16, bool), np.random.default_rng(3).choice([-4095, 4095], (16, 4, 4)))
    added = correction_plane(c, 16, 16)
    single = loop_filter.filter_samples(x, f, halved_luma(y), added)
    assert torch.equal(single.double(), loop_filter.filter_samples(x.double(), f, halved_luma(y.double()), added.double()))
