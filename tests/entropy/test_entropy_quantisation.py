"""The encoder's rounding by rate and distortion: never worse than plain rounding, and the best of the three that it looks at."""

import numpy as np
import pytest

from neuralcodec.core.errors import UsageError
from neuralcodec.entropy import SCALES, MaskMode, choose_mask, cost_bits, quantise

SHAPE = (12, 9, 14)


def make(seed=0, shape=SHAPE):
    """Residuals as wide as their tables, some far wider (escapes), and scale indexes over the whole range."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 64, shape).astype(np.uint8)
    residual = rng.normal(size=shape) * SCALES[index] * np.where(rng.random(shape) < 0.05, 20, 1)
    return residual.astype(np.float32), index


def cost(symbols, residual, index, lam):
    return cost_bits(symbols, index) + lam * (residual.astype(np.float64) - symbols) ** 2


def plain(residual):
    return np.floor(residual + 0.5).astype(np.int32)


@pytest.mark.parametrize("lam", [0.0, 0.3, 3.0, 8.0, 200.0])
def test_never_worse_than_plain_rounding_in_any_element(lam):
    residual, index = make()
    symbols = quantise(residual, index, lam)
    assert symbols.dtype == np.int32 and symbols.shape == SHAPE
    ours, rounded = cost(symbols, residual, index, lam), cost(plain(residual), residual, index, lam)
    assert (ours <= rounded).all()
    if lam < 100:
        assert ours.sum() < 0.995 * rounded.sum()


@pytest.mark.parametrize("lam", [0.3, 8.0])
def test_it_is_the_best_of_nearest_next_to_zero_and_zero(lam):
    residual, index = make(1)
    nearest = plain(residual)
    candidates = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)])
    costs = np.stack([cost(c, residual, index, lam) for c in candidates])
    symbols = quantise(residual, index, lam)
    assert (symbols[None] == candidates).any(0).all()
    assert np.array_equal(cost(symbols, residual, index, lam), costs.min(0))
    chosen = costs.argmin(0)
    # Each of the three is of use somewhere; zero for more than one step only where error is cheap.
    assert (chosen == 0).any() and (chosen == 1).any() and (lam > 1 or (chosen == 2).any())


def test_infinite_lambda_is_plain_rounding():
    residual, index = make(2)
    assert np.array_equal(quantise(residual, index, np.inf), plain(residual))
    # Halves go up, as everywhere in this codec.
    halves = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32).reshape(1, 1, 5)
    assert quantise(halves, np.full(halves.shape, 40, np.uint8), np.inf).tolist() == [[[-1, 0, 1, 2, 3]]]


def test_larger_lambda_means_less_error_and_more_bits():
    residual, index = make(3)
    symbols = [quantise(residual, index, lam) for lam in (0.1, 1.0, 10.0, np.inf)]
    errors = [float(((residual - s) ** 2).sum()) for s in symbols]
    bits = [float(cost_bits(s, index).sum()) for s in symbols]
    assert errors == sorted(errors, reverse=True) and bits == sorted(bits)
    assert len(set(errors)) == len(set(bits)) == 4


@pytest.mark.parametrize("lam", [4.0, np.inf])
def test_arrays_that_are_not_contiguous(lam):
    """Views of a latent's part: transposed, or with steps. Neither argument is written to."""
    residual, index = make(4, (10, 12, 16))
    for view in (lambda a: a.transpose(2, 0, 1), lambda a: a[::2, :, ::3], lambda a: a[:, ::-1]):
        r, i = view(residual), view(index)
        assert not r.flags.c_contiguous
        before = r.copy(), i.copy()
        got = quantise(r, i, lam)
        assert got.shape == r.shape and got.flags.c_contiguous
        assert np.array_equal(got, quantise(before[0], before[1], lam))
        assert np.array_equal(r, before[0]) and np.array_equal(i, before[1])


def test_each_element_may_have_its_own_lambda():
    residual, index = make(5)
    own = np.random.default_rng(6).choice([0.3, 8.0, 200.0], SHAPE)
    symbols, mask = quantise(residual, index, own), choose_mask(plain(residual), index, lam=own, modes=(MaskMode.THRESHOLD,), real=residual)
    for lam in np.unique(own):
        assert np.array_equal(symbols[own == lam], quantise(residual, index, lam)[own == lam])
    # Where error is dear, more is worth coding: the threshold lies between those of the extremes.
    low, high = (choose_mask(plain(residual), index, lam=lam, modes=(MaskMode.THRESHOLD,), real=residual).parameter for lam in (200.0, 0.3))
    assert low <= mask.parameter <= high and low < high


@pytest.mark.parametrize("shape", [(5, 1, 0), (0, 1, 1), (3, 2, 2)])
def test_nothing_to_round(shape):
    got = quantise(np.zeros(shape, np.float32), np.zeros(shape, np.uint8), 8.0)
    assert got.shape == shape and got.dtype == np.int32 and not got.any()


def test_indexes_and_symbols_out_of_range_are_refused():
    ones = np.ones((1, 1, 3), np.float32)
    with pytest.raises(UsageError):
        quantise(ones, np.full(ones.shape, 64), 8.0)
    with pytest.raises(UsageError):
        quantise(ones * 40000, np.zeros(ones.shape, np.uint8), 8.0)
