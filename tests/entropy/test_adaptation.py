"""Tables that adapt: both sides learn the same as the reference decoder, and it takes fewer bits where a prior is wrong."""

import numpy as np
import pytest
from reference import adaptation as reference

from neuralcodec.entropy import RADIUS, SCALES, TABLE_COUNT, Elements, cost_bits
from neuralcodec.entropy.adaptation import MOST_OFFSET, Adaptation, Offsets, slopes

CHANNELS = 5


def test_scores_are_those_of_the_document():
    score, information = slopes()
    assert information.tolist() == reference.INFORMATION
    for table in range(TABLE_COUNT):
        for magnitude in {0, 1, 2, int(RADIUS[table]), int(RADIUS[table]) + 1, 256}:
            assert score[table, magnitude] == reference.score(table, magnitude)
        assert score[table, 256] == reference.score(table, 32767), "what is beyond the radius counts as radius + 1"


def test_scores_are_those_of_the_tables_on_average():
    """A table that is right is left alone: expected scores are nearly 0; and information is what scores spread by."""
    from neuralcodec.entropy.tables import TABLE_MODELS

    score, information = slopes()
    for table, model in enumerate(TABLE_MODELS):
        radius = int(RADIUS[table])
        p = model.frequencies / 2.0**24
        own = score[table, np.abs(np.arange(2 * radius + 2) - radius)] / 2.0**16
        assert abs(p @ own) < 1e-4
        assert p @ own**2 == pytest.approx(information[table] / 2.0**16, abs=2e-4, rel=0.02)


def drawn(seed, scale=12, size=400):
    """Parts: scale indexes, channels, a mask and symbols, some of them far out."""
    rng = np.random.default_rng(seed)
    for _ in range(6):
        channel = np.sort(rng.integers(0, CHANNELS, size))
        index = np.clip(rng.integers(scale - 12, scale + 12, size), 0, 63).astype(np.uint8)
        mask = rng.random(size) < 0.7
        symbols = np.where(mask, np.rint(rng.normal(0, SCALES[index] * (1 + channel))), 0).astype(np.int32)
        symbols[rng.integers(0, size, 3)] = 3000 * mask[:3]
        yield index, channel, mask, np.where(mask, symbols, 0)


@pytest.mark.parametrize("scale", [0, 12, 40, 63])
def test_offsets_follow_as_in_the_reference_decoder(scale):
    ours, theirs = Offsets.none(CHANNELS), reference.Offsets(CHANNELS)
    moved = False
    for index, channel, mask, symbols in drawn(scale, scale):
        tables = ours.tables(index, channel)
        assert tables.dtype == np.uint8 and np.array_equal(tables, theirs.tables(index, channel))
        moved |= not np.array_equal(tables, index)
        ours.learn(tables, channel, mask, Elements.of(symbols))
        theirs.learn(tables[mask], channel[mask], symbols[mask])
        assert ours.offset.tolist() == theirs.a and ours.information.tolist() == theirs.i
    assert moved and np.abs(ours.offset).max() <= MOST_OFFSET


def test_elements_may_be_zero_or_left_out():
    """A decoder hands on all elements that it read, an encoder those that are not 0: it makes no difference."""
    some, all_ = Offsets.none(CHANNELS), Offsets.none(CHANNELS)
    for index, channel, mask, symbols in drawn(7):
        tables = some.tables(index, channel)
        where = np.flatnonzero(mask)[::-1]
        some.learn(tables, channel, mask, Elements.of(symbols))
        all_.learn(tables, channel, mask, Elements(where, symbols[where]))
    assert np.array_equal(some.offset, all_.offset) and np.array_equal(some.information, all_.information)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_wrong_prior_costs_less(factor):
    """Symbols that spread otherwise than the prior says; after some parts the offset is about what it should be."""
    rng, offsets = np.random.default_rng(1), Offsets.none(2)
    channel = np.repeat([0, 1], 500)
    index = rng.integers(25, 35, 1000).astype(np.uint8)
    said = used = 0.0
    for _ in range(12):
        symbols = np.rint(rng.normal(0, SCALES[index] * np.where(channel == 0, factor, 1.0))).astype(np.int32)
        tables = offsets.tables(index, channel)
        said += cost_bits(symbols, index).sum()
        used += cost_bits(symbols, tables).sum()
        offsets.learn(tables, channel, np.ones(1000, bool), Elements.of(symbols))
    steps = np.log(factor) / np.log(SCALES[1] / SCALES[0])
    assert offsets.offset[0] / 256 == pytest.approx(steps, abs=1.5) and abs(offsets.offset[1]) < 256
    assert used < 0.97 * said


def test_hyper_latents_follow_as_in_the_reference_decoder():
    rng, shape = np.random.default_rng(2), (CHANNELS, 3, 4)
    ours, theirs = Adaptation.none(7, shape, 2).hyper, reference.Adaptation.start(7, shape, True)
    index = np.array([0, 10, 20, 30, 63], np.uint8)
    latent, back = rng.integers(-30, 31, shape), Adaptation.none(7, shape, 2).hyper
    for _ in range(12):
        latent = np.clip(np.rint(0.9 * latent + rng.normal(0, 3, shape)), -127, 127).astype(np.int64)
        latent[0] *= -1
        tables = ours.tables(index)
        assert np.array_equal(tables, theirs.hyper.tables(index[:, None, None], np.arange(CHANNELS)[:, None, None]) + np.zeros(shape))
        symbols = ours.symbols_of(latent, tables)
        assert np.array_equal(symbols, latent - theirs.prediction())
        assert np.array_equal(back.latent_of(symbols, back.tables(index)), latent)
        theirs.learn_hyper(tables, symbols, latent)
    sizes = [np.abs(x).mean((1, 2)) for x in (symbols, latent)]
    assert (sizes[0] < 0.6 * sizes[1]).all(), "also of the channel whose sign turns with each frame"


def test_a_copy_learns_alone():
    one = Adaptation.none(CHANNELS, (2, 1, 1), 2)
    other = one.copy()
    index, channel, mask, symbols = next(drawn(3))
    other.of_part(1).learn(other.of_part(1).tables(index, channel), channel, mask, Elements.of(symbols))
    other.hyper.latent_of(np.full((2, 1, 1), 9), other.hyper.tables(np.array([5, 5], np.uint8)))
    assert not one.of_part(1).offset.any() and not one.hyper.before.any() and not one.hyper.offsets.offset.any()
    assert other.of_part(1).offset.any() and not other.of_part(0).offset.any()
    assert other.of_part(3) is other.of_part(1)
