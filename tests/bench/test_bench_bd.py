"""BD figures on curves whose answer is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from neuralcodec.bench.bd import bd, mean_bd, rate_at, rising
from neuralcodec.core.errors import MeasureError

CURVE = [(0.02, 32.1), (0.05, 35.0), (0.11, 37.9), (0.24, 40.8), (0.5, 43.2)]


def test_a_curve_against_itself_is_zero():
    result = bd(CURVE, CURVE)
    assert result.rate == pytest.approx(0, abs=1e-9)
    assert result.psnr == pytest.approx(0, abs=1e-9)
    assert result.overlap == 1
    assert result.overlap_db == pytest.approx(11.1)


@pytest.mark.parametrize("factor", [0.5, 1.1, 1.6])
def test_the_same_factor_of_bits_everywhere(factor):
    result = bd(CURVE, [(factor * rate, psnr) for rate, psnr in CURVE])
    assert result.rate == pytest.approx(100 * (factor - 1))
    assert math.copysign(1, result.psnr) == (1 if factor < 1 else -1)


def test_the_same_gain_in_decibels_everywhere():
    assert bd(CURVE, [(rate, psnr + 0.7) for rate, psnr in CURVE]).psnr == pytest.approx(0.7)


def test_curves_may_have_different_numbers_of_points_in_any_order():
    line = [(math.exp(p / 5), p) for p in (30.0, 32, 35, 39, 40)]
    other = [(1.2 * math.exp(p / 5), p) for p in (41.0, 33, 36, 30)]
    assert bd(line, other).rate == pytest.approx(20)


def test_it_agrees_with_the_sampled_integral_of_pchip():
    from scipy.interpolate import PchipInterpolator

    other = [(0.018, 31.0), (0.06, 35.9), (0.13, 38.0), (0.3, 41.9)]
    x = np.linspace(32.1, 41.9, 20001)
    a, b = (PchipInterpolator([p for _, p in c], [math.log(r) for r, _ in c])(x) for c in (CURVE, other))
    assert bd(CURVE, other).rate == pytest.approx(100 * (math.exp(np.mean(b - a)) - 1), abs=0.01)


def test_the_test_data_of_the_bjontegaard_package():
    """x265 with two presets, from that package's documentation; the figures are worked out here without it."""
    from scipy.interpolate import PchipInterpolator

    anchor = list(zip((9487.76, 4593.60, 2486.44, 1358.24), (40.037, 38.615, 36.845, 34.851), strict=True))
    tested = list(zip((9787.80, 4469.00, 2451.52, 1356.24), (40.121, 38.651, 36.970, 34.987), strict=True))
    result = bd(anchor, tested)
    x = np.linspace(34.987, 40.037, 20001)
    a, b = (
        PchipInterpolator([p for _, p in sorted(c)], [math.log(r) for r, _ in sorted(c)])(x) for c in (anchor, tested)
    )
    assert result.rate == pytest.approx(100 * (math.exp(np.mean(b - a)) - 1), abs=0.01) and -6 < result.rate < -3
    x = np.linspace(math.log(1358.24), math.log(9487.76), 20001)
    a, b = (
        PchipInterpolator([math.log(r) for r, _ in sorted(c)], [p for _, p in sorted(c)])(x) for c in (anchor, tested)
    )
    assert result.psnr == pytest.approx(np.mean(b - a), abs=0.001)
    assert bd(tested, anchor).rate == pytest.approx(100 * (1 / (1 + result.rate / 100) - 1))


def test_other_measures_have_their_own_least_range():
    narrow = [(1.0, 90.0), (1.1, 91.0)]
    assert bd(narrow, narrow).rate == pytest.approx(0, abs=1e-9)
    assert "1.00 points" in bd(narrow, narrow, 2.0, "points").reason


def test_curves_that_share_too_little_are_refused():
    far = bd(CURVE, [(rate, psnr + 8) for rate, psnr in CURVE])
    assert far.rate is None and far.psnr is None
    assert far.overlap == pytest.approx(3.1 / 11.1)
    assert "28 %" in far.reason and far.apart
    assert bd(CURVE, [(rate, psnr + 20) for rate, psnr in CURVE]).overlap_db == 0


def test_a_curve_of_less_than_half_a_decibel_is_refused():
    assert bd(CURVE, [(0.05, 35.0), (0.06, 35.4)]).rate is None
    assert bd(CURVE, [(0.05, 35.0)]).reason == "a curve has fewer than two usable points"
    assert not bd(CURVE, [(0.05, 35.0)]).apart and not bd(CURVE, CURVE).apart


def test_a_point_that_costs_more_than_a_better_one_does_not_count():
    assert rising([(3.0, 31.0), (1.0, 30.0), (2.0, 32.0)]) == [(1.0, 30.0), (3.0, 31.0)]
    assert all(a < b for a, b in pairwise(rising([*CURVE, (0.01, 36.0), (0.05, 35.0)])))
    with pytest.raises(MeasureError, match="rate of 0"):
        rising([(0.0, 30.0)])


def test_the_mean_is_over_clips_that_count():
    results = [bd(CURVE, [(f * r, p) for r, p in CURVE]) for f in (1.1, 1.3)] + [bd(CURVE, CURVE[:1])]
    mean, count = mean_bd(results)
    assert (mean, count) == (pytest.approx(20), 2)
    assert mean_bd(results[2:]) == (None, 0)


def test_the_rate_at_a_psnr_is_not_extrapolated():
    assert rate_at(CURVE, 37.9) == pytest.approx(0.11)
    assert rate_at([(math.exp(p), p) for p in (1.0, 2, 3)], 2.5) == pytest.approx(math.exp(2.5))
    assert rate_at(CURVE, 32.0) is None and rate_at(CURVE, 43.3) is None and rate_at([], 40.0) is None
