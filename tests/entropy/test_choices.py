"""Choices of predictions: what is written is read, by the reference decoder too, in no more bits than were foretold."""

import numpy as np
import pytest

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import FrameDecoder, FrameEncoder
from neuralcodec.entropy.choices import CHOICES, CONTEXTS, ChoiceStatistics, choice_costs, read_choices, write_choices
from neuralcodec.entropy.flag_statistics import COUNTED
from neuralcodec.entropy.tables import FLAG_MODELS

SHAPES = [(1, 1), (1, 6), (5, 1), (2, 2), (3, 3), (7, 12), (23, 40)]


def drawn(shape, seed, frames=5, share=0.3):
    """Choices of successive frames, many as in the frame before, one frame without any."""
    rng = np.random.default_rng(seed)
    found = [np.zeros(shape, np.uint8)]
    for n in range(frames):
        fresh = np.where(rng.random(shape) < share, rng.integers(0, CHOICES, shape), 0)
        found.append(np.where(rng.random(shape) < 0.5, found[-1], fresh).astype(np.uint8) * np.uint8(n != 2))
    return found[1:]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_choices_come_back_and_both_sides_count_alike(shape, share):
    ours, theirs, before = ChoiceStatistics(), ChoiceStatistics(), None
    for choices in drawn(shape, len(SHAPES) * shape[0] + shape[1], share=share):
        encoder = FrameEncoder()
        ours_next = write_choices(encoder, choices, before, ours)
        encoder.put_bits(5, 3)
        decoder = FrameDecoder(encoder.finish())
        got, theirs = read_choices(decoder, shape, before, theirs)
        assert np.array_equal(got, choices) and got.dtype == np.uint8
        assert decoder.get_bits(3)[0] == 5
        decoder.finish()
        assert np.array_equal(ours_next.counts, theirs.counts)
        ours, before = ours_next, choices


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_reference_decoder_reads_the_same(shape):
    from reference import choices as reference
    from reference.rans import Rans

    statistics, before, theirs = ChoiceStatistics(), None, None
    for choices in drawn(shape, sum(shape)):
        encoder = FrameEncoder()
        encoder.put_bits(int(choices.any()), 1)  # whether the frame is a long-term reference
        statistics = write_choices(encoder, choices, before, statistics)
        rans = Rans(encoder.finish())
        theirs = reference.read_choices(rans, *shape, theirs)
        rans.check_end()
        assert np.array_equal(theirs.value, choices) and theirs.lasting is bool(choices.any())
        assert np.array_equal(np.array(theirs.counts), statistics.counts)
        before = choices


def test_what_a_choice_costs_is_what_it_takes():
    shape = (40, 64)
    statistics, before = ChoiceStatistics(), None
    for choices in drawn(shape, 3, frames=4):
        encoder = FrameEncoder()
        costs = choice_costs(choices, before, statistics)
        after = write_choices(encoder, choices, before, statistics)
        encoder.finish()
        foretold = float(np.take_along_axis(costs, choices[..., None].astype(int), -1).sum())
        if choices.any():
            assert encoder.bits["choices"] - 1 == pytest.approx(foretold, rel=0.001, abs=40)  # 40: the state at the end
        statistics, before = after, choices


def test_choices_that_last_get_cheaper():
    choices = np.zeros((40, 64), np.uint8)
    choices[10:20, 10:30] = 3
    statistics, before, taken = ChoiceStatistics(), None, []
    for _ in range(6):
        encoder = FrameEncoder()
        statistics = write_choices(encoder, choices, before, statistics)
        taken.append(8 * len(encoder.finish()))
        before = choices
    assert taken[-1] < 0.25 * taken[0]


def test_probability_indexes_are_the_nearest_and_counts_stay_bounded():
    ones = np.array([int(m.frequencies[1]) for m in FLAG_MODELS]) / 2**24
    rng = np.random.default_rng(0)
    statistics = ChoiceStatistics()
    for _ in range(20):
        statistics = statistics.updated(rng.integers(0, 3000, (CONTEXTS, 2)) * (rng.random((CONTEXTS, 2)) < 0.7))
        total = statistics.counts.sum(1)
        assert statistics.counts.min() >= 0 and (total <= COUNTED).all() and (total > 0).all()
        share = statistics.counts[:, 1] / total
        indexes = statistics.probability_indexes()
        assert np.allclose(np.abs(ones[indexes] - share), np.abs(ones[None] - share[:, None]).min(1), atol=1e-12)


@pytest.mark.parametrize("wrong", [np.full((2, 2), CHOICES), np.full((2, 2), -1), np.zeros(4, np.uint8)], ids=["large", "negative", "shape"])
def test_other_numbers_are_refused(wrong):
    with pytest.raises(UsageError, match="choices"):
        write_choices(FrameEncoder(), wrong, None, ChoiceStatistics())


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_payload_gives_choices_in_range_or_an_error(seed):
    rng = np.random.default_rng(seed)
    try:
        got, statistics = read_choices(FrameDecoder(rng.bytes(int(rng.integers(0, 40))) + b"\1"), (9, 11), None, ChoiceStatistics())
    except StreamError:
        return
    assert got.max(initial=0) < CHOICES and (statistics.counts >= 0).all()
