"""Loop filters in a payload: what is written is read, by the reference decoder too; what cannot be is refused."""

import numpy as np
import pytest

from bitstream_spec.reference import filters as reference
from bitstream_spec.reference.rans import Rans
from bitstream_spec.reference.rans import StreamError as ReferenceError
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import FrameDecoder, FrameEncoder
from neuralcodec.entropy.filters import LIMIT, NEXT_TABLE, USUAL, FilterState, read_filters, same, write_filters


def draw(rng, classes):
    return np.clip(USUAL + rng.integers(-9, 10, (classes, 12)), -LIMIT, LIMIT)


def sequence(seed, frames=12):
    """Filters of a group's frames: new ones, those of before, none."""
    rng, sent = np.random.default_rng(seed), [None, None, None]
    for _ in range(frames):
        planes = []
        for index in range(3):
            kind = rng.integers(0, 3)
            if kind == 2 or (kind == 1 and sent[index] is None):
                sent[index] = draw(rng, int(rng.choice([1, 2, 4])) if index == 0 else 1)
            planes.append(sent[index] if kind else None)
        yield tuple(planes)


@pytest.mark.parametrize("seed", range(8))
def test_filters_come_back(seed):
    written = read = theirs = None
    for planes in sequence(seed):
        encoder = FrameEncoder()
        written = write_filters(encoder, planes, written)
        encoder.put_bits(5, 3)
        payload = encoder.finish()
        decoder, rans = FrameDecoder(payload), Rans(payload)
        read, theirs = read_filters(decoder, read), reference.read_filters(rans, theirs)
        assert decoder.get_bits(3)[0] == rans.bits(3) == 5
        decoder.finish()
        rans.check_end()
        for state in (written, read, theirs):
            assert all(same(a, b) for a, b in zip(state.planes, planes, strict=True))
        assert all(same(a, b) for a, b in zip(read.sent, written.sent, strict=True))


def test_what_does_not_change_costs_next_to_nothing():
    rng = np.random.default_rng(1)
    planes = draw(rng, 4), None, draw(rng, 1)
    first = FrameEncoder()
    state = write_filters(first, planes, None)
    again = FrameEncoder()
    for _ in range(200):
        assert write_filters(again, planes, state) is state
    assert 200 < 8 * len(first.finish()) < 400 and 8 * len(again.finish()) < 64


def test_a_change_of_classes_starts_from_the_nearest_ones():
    rng = np.random.default_rng(2)
    four = draw(rng, 4)
    state = FilterState((four, None, None), (four, None, None))
    for classes in (1, 2):
        encoder = FrameEncoder()
        coarse = four[:: 4 // classes].copy()
        write_filters(encoder, (coarse, None, None), state)
        decoder = FrameDecoder(encoder.finish())
        decoder.get_flags(1, 14)
        assert [int(decoder.get_bits(n)[0]) for n in (1, 1, 2)] == [1, 1, classes - 1]
        assert not decoder.get(np.full((classes, 12), NEXT_TABLE)).any()


def test_filters_that_there_are_not_are_refused():
    for planes in ((np.zeros((3, 12), int), None, None), (None, np.zeros((2, 12), int), None), (np.zeros((1, 11), int), None, None), (np.full((1, 12), 32), None, None)):
        with pytest.raises(UsageError, match="loop filter"):
            write_filters(FrameEncoder(), planes, None)
    classes, range_ = FrameEncoder(), FrameEncoder()
    for value, bits in ((1, 1), (3, 2)):
        classes.put_bits(value, bits)
    for value, bits in ((1, 1), (0, 2)):
        range_.put_bits(value, bits)
    range_.put(np.full((1, 12), 30), np.full((1, 12), 42))
    for encoder in (classes, range_):
        payload = encoder.finish()
        with pytest.raises(StreamError, match="loop filter"):
            read_filters(FrameDecoder(payload), None)
        with pytest.raises(ReferenceError, match="loop filter"):
            reference.read_filters(Rans(payload), None)
