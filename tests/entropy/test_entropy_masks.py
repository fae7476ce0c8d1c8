"""Masks and latents: round trips of every mode, the encoder's choice, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import (
    SCALES,
    FrameDecoder,
    FrameEncoder,
    MaskMode,
    choose_mask,
    code_latent,
    cost_bits,
    decode_latent,
    pack_mask_mode,
    read_mask,
    unpack_mask_mode,
    write_mask,
)


def make_latent(seed, shape, level=12.0):
    """Residual, scale index and derived mask with smooth scale indexes, so that blocks make sense."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(level, 12, (shape[0], -(-shape[1] // 4), -(-shape[2] // 4)))
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[1], : shape[2]]
    scale_index = np.clip(smooth + rng.normal(0, 3, shape), 0, 63).astype(np.uint8)
    residual = np.rint(rng.normal(size=shape) * SCALES[scale_index]).astype(np.int32)
    return residual, scale_index, scale_index + rng.integers(-4, 5, shape) > 16


def round_trip(choice, residual, scale_index, derived, backend=None):
    encoder = FrameEncoder(backend)
    write_mask(encoder, choice.mode, choice.parameter, choice.mask, scale_index, derived)
    code_latent(encoder, residual, scale_index, choice.mask, "latent")
    payload = encoder.finish()
    decoder = FrameDecoder(payload, backend)
    mask = read_mask(decoder, choice.mode, choice.parameter, scale_index, derived)
    decoded = decode_latent(decoder, scale_index, mask, "latent")
    decoder.finish()
    assert mask.dtype == np.bool_ and np.array_equal(mask, choice.mask)
    assert decoded.dtype == np.int32 and np.array_equal(decoded, np.where(mask, residual, 0))
    assert sum(decoder.bits.values()) == pytest.approx(sum(encoder.bits.values()), abs=1e-6)
    return payload, encoder.bits


SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 11), st.integers(1, 11))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), shape=SHAPES, mode=st.sampled_from(list(MaskMode)), level=st.integers(-20, 60))
def test_round_trip_of_every_mode(backend, seed, shape, mode, level):
    residual, scale_index, derived = make_latent(seed, shape, level)
    choice = choose_mask(residual, scale_index, derived, modes=(mode,))
    assert choice.mode == mode
    assert unpack_mask_mode(pack_mask_mode(choice.mode, choice.parameter)) == (choice.mode, choice.parameter)
    round_trip(choice, residual, scale_index, derived, backend)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 70000, 150000])
@pytest.mark.parametrize("order", [0, 1, 7, 16])
def test_exceptions_of_any_number_and_order(count, order):
    """Counts over 2^16 take two fields; the highest order makes gaps of two fields."""
    rng = np.random.default_rng(count)
    scale_index = np.zeros((3, 200, 300), np.uint8)
    derived = rng.random(scale_index.shape) < 0.1
    skipped = np.flatnonzero(~derived)
    if count < 1000:
        skipped = skipped[: (1 << 15 + order) - (1 << order)]  # no gap that the order cannot hold
    mask = derived.copy()
    mask.reshape(-1)[rng.choice(skipped, count, replace=False)] = True
    encoder = FrameEncoder()
    write_mask(encoder, MaskMode.DERIVED_WITH_EXCEPTIONS, order, mask, scale_index, derived)
    decoder = FrameDecoder(encoder.finish())
    assert np.array_equal(read_mask(decoder, MaskMode.DERIVED_WITH_EXCEPTIONS, order, scale_index, derived), mask)
    decoder.finish()


def merit(choice, residual, scale_index, derived, lam):
    """Bits of the payload plus lam times the squared residual dropped: what choose_mask minimises, from real bytes."""
    _, bits = round_trip(choice, residual, scale_index, derived)
    return sum(bits.values()) + lam * float((residual[~choice.mask].astype(float) ** 2).sum())


@pytest.mark.parametrize("level", [0, 8, 20, 45])
@pytest.mark.parametrize("lam", [2.0, 8.0])
def test_the_choice_is_the_best_of_the_modes(level, lam):
    residual, scale_index, derived = make_latent(level, (24, 30, 41), level)
    costs = {}
    for mode in MaskMode:
        best = choose_mask(residual, scale_index, derived, lam, (mode,))
        costs[mode] = merit(best, residual, scale_index, derived, lam)
    chosen = choose_mask(residual, scale_index, derived, lam)
    assert costs[chosen.mode] <= min(costs.values()) + 64  # the rule estimates without the coder's 3 bytes of start


def test_threshold_is_the_best_of_all_thresholds():
    residual, scale_index, _ = make_latent(1, (8, 16, 16))
    chosen = choose_mask(residual, scale_index, lam=3.0, modes=(MaskMode.THRESHOLD,))
    costs = []
    for threshold in range(64):
        mask = scale_index >= threshold
        bits = cost_bits(residual, scale_index)[mask].sum()
        costs.append(bits + 3.0 * (residual[~mask].astype(float) ** 2).sum())
    assert chosen.parameter == int(np.argmin(costs))


def test_a_price_on_coding_skips_what_saves_less():
    residual, scale_index, derived = make_latent(3, (12, 9, 11))
    counts, merits = [], []
    for price in (0.0, 0.125, 1.0):
        mask = choose_mask(residual, scale_index, modes=(MaskMode.THRESHOLD,), lam=8.0, price=price).mask
        gain = 8.0 * residual.astype(float) ** 2 - cost_bits(residual, scale_index) - price
        by_threshold = [gain[scale_index >= t].sum() for t in range(64)]
        assert gain[mask].sum() == pytest.approx(max(by_threshold))
        counts.append(int(mask.sum()))
        merits.append(choose_mask(residual, scale_index, derived, lam=8.0, price=price).mask.sum())
    assert counts[0] > counts[1] > counts[2]
    assert merits[0] >= merits[1] > merits[2]


def test_infinite_lambda_drops_nothing():
    residual, scale_index, derived = make_latent(2, (8, 16, 16))
    for mode in (MaskMode.DERIVED_WITH_EXCEPTIONS, MaskMode.SENT, MaskMode.THRESHOLD):
        choice = choose_mask(residual, scale_index, derived, np.inf, (mode,))
        assert not residual[~choice.mask].any()


def real_residual(residual, seed=6):
    """What was rounded to ``residual``."""
    return residual + np.random.default_rng(seed).uniform(-0.5, 0.5, residual.shape)


def test_threshold_is_the_best_of_all_by_the_real_error():
    """Coding leaves (real - symbol) ** 2 behind, skipping real ** 2."""
    residual, scale_index, _ = make_latent(7, (8, 16, 16))
    real = real_residual(residual)
    chosen = choose_mask(residual, scale_index, None, 3.0, (MaskMode.THRESHOLD,), real)
    bits, costs = cost_bits(residual, scale_index), []
    for threshold in range(64):
        mask = scale_index >= threshold
        costs.append(bits[mask].sum() + 3.0 * np.where(mask, (real - residual) ** 2, real**2).sum())
    assert chosen.parameter == int(np.argmin(costs))


def test_a_symbol_that_was_hardly_rounded_up_is_not_worth_its_bits():
    residual = np.zeros((1, 4, 4), np.int32)
    residual[0, 1, 1] = residual[0, 2, 3] = 1
    real = np.zeros(residual.shape)
    real[0, 1, 1], real[0, 2, 3] = 0.52, 1.3
    scale_index, derived = np.full(residual.shape, 25, np.uint8), np.zeros(residual.shape, bool)
    modes = (MaskMode.DERIVED, MaskMode.DERIVED_WITH_EXCEPTIONS)
    lam = 30.0
    without = choose_mask(residual, scale_index, derived, lam, modes)
    assert np.array_equal(without.mask, residual != 0)
    chosen = choose_mask(residual, scale_index, derived, lam, modes, real)
    assert np.argwhere(chosen.mask).tolist() == [[0, 2, 3]]
    round_trip(chosen, residual, scale_index, derived)


@pytest.mark.parametrize("mode", list(MaskMode))
def test_a_real_residual_that_needed_no_rounding_changes_nothing(mode):
    residual, scale_index, derived = make_latent(8, (9, 10, 11))
    without = choose_mask(residual, scale_index, derived, 3.0, (mode,))
    given_real = choose_mask(residual, scale_index, derived, 3.0, (mode,), residual.astype(np.float32))
    assert without[:2] == given_real[:2] and np.array_equal(without.mask, given_real.mask)
    # Arrays in another order in memory are the same arrays.
    real = real_residual(residual)
    plain = choose_mask(residual, scale_index, derived, 3.0, (mode,), real)
    turned = choose_mask(*(np.asfortranarray(a) for a in (residual, scale_index, derived)), 3.0, (mode,), np.asfortranarray(real))
    assert plain[:2] == turned[:2] and np.array_equal(plain.mask, turned.mask)


@pytest.mark.parametrize("mode", list(MaskMode))
def test_a_part_without_positions(mode):
    """The second part of a latent of one position: every mode has a mask for it, of hardly any bits."""
    residual, scale_index, derived = (np.zeros((24, 1, 0), t) for t in (np.int32, np.uint8, bool))
    choice = choose_mask(residual, scale_index, derived, 3.0, (mode,), np.zeros((24, 1, 0)))
    payload, _ = round_trip(choice, residual, scale_index, derived)
    assert choice.mask.shape == (24, 1, 0) and len(payload) <= 1


def test_a_still_frame_costs_no_byte_or_one():
    residual = np.zeros((96, 68, 120), np.int32)
    scale_index = np.full(residual.shape, 20, np.uint8)
    choice = choose_mask(residual, scale_index)
    payload, _ = round_trip(choice, residual, scale_index, None)
    assert not choice.mask.any() and len(payload) <= 1


def test_skipping_saves_bits_on_noise():
    """Residuals of low scale are worth less than their bits: the chosen mask is cheaper than coding everything."""
    residual, scale_index, derived = make_latent(3, (24, 32, 32), 5)
    everything = choose_mask(residual, scale_index, modes=(MaskMode.THRESHOLD,))._replace(
        parameter=0, mask=np.ones(residual.shape, bool)
    )
    chosen = choose_mask(residual, scale_index, derived)
    costs = [merit(c, residual, scale_index, derived, 8.0) for c in (chosen, everything)]
    assert costs[0] < costs[1]


def test_threshold_zero_codes_everything():
    residual, scale_index, _ = make_latent(4, (3, 5, 7))
    encoder = FrameEncoder()
    code_latent(encoder, residual, scale_index)
    payload = encoder.finish()
    decoder = FrameDecoder(payload)
    mask = read_mask(decoder, MaskMode.THRESHOLD, 0, scale_index)
    assert mask.all() and np.array_equal(decode_latent(decoder, scale_index, mask), residual)
    assert np.array_equal(decode_latent(FrameDecoder(payload), scale_index), residual)


def test_masks_that_a_mode_cannot_express_are_refused():
    _, scale_index, derived = make_latent(5, (4, 8, 8))
    wrong = derived.copy()
    wrong[np.unravel_index(np.flatnonzero(derived)[0], derived.shape)] = False
    for mode, parameter in ((0, 0), (1, 0), (2, 0), (3, 5), (0, 1), (1, 17), (2, 64), (3, -1), (7, 0)):
        with pytest.raises(UsageError):
            write_mask(FrameEncoder(), mode, parameter, wrong, scale_index, derived)
    with pytest.raises(UsageError):
        choose_mask(np.zeros((1, 1, 1), int), np.zeros((1, 1, 1), int), None, modes=(MaskMode.DERIVED,))


def test_streams_with_impossible_masks_are_refused():
    scale_index = np.zeros((2, 3, 3), np.uint8)
    derived = np.zeros(scale_index.shape, bool)
    for mode, parameter, given_mask in ((0, 1, derived), (1, 17, derived), (0, 0, None), (1, 3, None)):
        with pytest.raises(StreamError):
            read_mask(FrameDecoder(b""), mode, parameter, scale_index, given_mask)
    with pytest.raises(StreamError):
        unpack_mask_mode(256)
    too_many = FrameEncoder()
    too_many.put_bits(31, 5)
    too_many.put_bits(0, 14)
    too_many.put_bits(0, 16)
    with pytest.raises(StreamError, match="exceptions among 18"):
        read_mask(FrameDecoder(too_many.finish()), MaskMode.DERIVED_WITH_EXCEPTIONS, 0, scale_index, derived)
    outside = FrameEncoder()
    outside.put_bits(1, 5)
    outside.put_numbers(np.array([18]), 2)
    with pytest.raises(StreamError, match="exception at 18"):
        read_mask(FrameDecoder(outside.finish()), MaskMode.DERIVED_WITH_EXCEPTIONS, 2, scale_index, derived)
