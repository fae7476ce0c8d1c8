"""Nearly certain elements in groups: round trips, what they cost, what older ways give, damage, the reference decoder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitstream_spec.reference.masks import read_latent
from bitstream_spec.reference.rans import Rans
from neuralcodec.core.errors import StreamError
from neuralcodec.entropy import FrameDecoder, FrameEncoder, code_latent, decode_latent
from neuralcodec.entropy.sparse import CERTAIN, GROUP, read_sparse, write_sparse
from neuralcodec.entropy.tables import TABLE_MODELS


def make_latent(seed, count, share, largest):
    """Mostly of low scale indexes, with a ``share`` of elements that are not 0."""
    rng = np.random.default_rng(seed)
    scale_index = np.minimum(rng.geometric(0.6, (2, 1, count)) - 1, 63).astype(np.uint8)
    residual = np.where(rng.random(scale_index.shape) < share, rng.integers(-largest, largest + 1, scale_index.shape), 0).astype(np.int32)
    return residual, scale_index, rng.random(scale_index.shape) < 0.9


def payload_of(residual, scale_index, mask, sparse, backend=None):
    encoder = FrameEncoder(backend)
    code_latent(encoder, residual, scale_index, mask, "latent", sparse)
    return encoder.finish(), encoder.bits.get("latent", 0.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), count=st.one_of(st.integers(0, 3), st.integers(60, 70), st.integers(500, 600)), share=st.sampled_from([0.0, 0.002, 0.05, 1.0]),
       largest=st.sampled_from([1, 3, 32767]))
def test_round_trip_here_and_in_the_reference(backend, seed, count, share, largest):
    residual, scale_index, mask = make_latent(seed, count, share, largest)
    payload, bits = payload_of(residual, scale_index, mask, True, backend)
    decoder = FrameDecoder(payload, backend)
    decoded = decode_latent(decoder, scale_index, mask, "latent", True)
    decoder.finish()
    assert decoded.dtype == np.int32 and np.array_equal(decoded, np.where(mask, residual, 0))
    assert decoder.bits.get("latent", 0.0) == pytest.approx(bits, abs=1e-6)
    rans = Rans(payload)
    assert np.array_equal(read_latent(rans, scale_index, mask, True), decoded)
    rans.check_end()


def test_without_a_mask_all_elements_are_coded():
    residual, scale_index, _ = make_latent(1, 200, 0.01, 2)
    payload, _ = payload_of(residual, scale_index, None, True)
    assert np.array_equal(decode_latent(FrameDecoder(payload), scale_index, None, "latent", True), residual)


def test_what_is_as_certain_as_it_seems_costs_hardly_more_and_surprises_cost_less():
    rng = np.random.default_rng(2)
    scale_index = rng.integers(0, CERTAIN, (1, 1, 200_000)).astype(np.uint8)
    mask = np.ones(scale_index.shape, bool)
    frequencies = np.array([TABLE_MODELS[i].frequencies[2] for i in range(CERTAIN)]) / 2**24
    for times, most in ((1, 1.25), (100, 0.9)):
        residual = np.where(rng.random(scale_index.shape) < 2 * times * frequencies[scale_index], rng.choice([-1, 1], scale_index.shape), 0).astype(np.int32)
        assert residual.any()
        assert payload_of(residual, scale_index, mask, True)[1] < most * payload_of(residual, scale_index, mask, False)[1]
    nothing = np.zeros(scale_index.shape, np.int32)
    assert payload_of(nothing, scale_index, mask, True)[1] < 6


def test_groups_are_of_sixty_four_and_the_last_may_be_smaller():
    for where, inside in ((0, GROUP), (2 * GROUP, 3)):
        residual = np.zeros(2 * GROUP + 3, np.int32)
        residual[where] = 5
        encoder = FrameEncoder()
        write_sparse(encoder, residual, "x")
        decoder = FrameDecoder(encoder.finish())
        assert not decoder.get_flags(1, 2)[0]
        groups = decoder.get_flags(3, 1)
        assert groups.tolist() == [n == where // GROUP for n in range(3)]
        assert decoder.get_flags(inside, 3).tolist() == [n == 0 for n in range(inside)]
        assert (decoder.get_numbers(1, 0).tolist(), decoder.get_bits(1).tolist()) == ([4], [0])
        decoder.finish()


@pytest.mark.parametrize("payload", [b"", b"\xff" * 40, bytes(range(1, 200)), b"\x01" * 3000])
def test_damage_gives_symbols_or_an_error_in_bounded_memory(payload):
    scale_index, mask = np.zeros((1, 1, 5000), np.uint8), np.ones((1, 1, 5000), bool)
    try:
        decoded = decode_latent(FrameDecoder(payload), scale_index, mask, "latent", True)
    except StreamError:
        return
    assert decoded.shape == scale_index.shape and np.abs(decoded).max() <= 32767


def test_nothing_is_read_of_no_elements():
    decoder = FrameDecoder(b"\x05")
    where, values = read_sparse(decoder, 0)
    assert where.size == values.size == 0 and decoder.remaining > 0
