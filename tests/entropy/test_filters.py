"""Loop filters in a payload: what is written is read, by the reference decoder too; what cannot be is refused."""

import numpy as np
import pytest

from bitstream_spec.reference import filters as reference
from bitstream_spec.reference.rans import Rans
from bitstream_spec.reference.rans import StreamError as ReferenceError
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.core.types import PlaneFilter
from neuralcodec.entropy import FrameDecoder, FrameEncoder
from neuralcodec.entropy.filters import LIMIT, NEXT_TABLE, USUAL, FilterState, read_filters, write_filters


def draw(rng, classes, clip=0):
    return PlaneFilter(np.clip(USUAL + rng.integers(-9, 10, (classes, 12)), -LIMIT, LIMIT), clip)


def with_luma(rng, f):
    return PlaneFilter(f.coefficients, f.clip, rng.integers(-9, 10, (1, 12)) if rng.integers(0, 2) else None)


def sequence(seed, directed, frames=12):
    """Filters of a group's frames: new ones, those of before, none."""
    rng, sent = np.random.default_rng(seed), [None, None, None]
    for _ in range(frames):
        planes = []
        for index in range(3):
            kind = rng.integers(0, 3)
            if kind == 2 or (kind == 1 and sent[index] is None):
                sent[index] = draw(rng, int(rng.choice([1, 2, 4, 8][: 3 + directed])) if index == 0 else 1, int(rng.integers(0, 4)) if directed else 0)
                if directed and index:
                    sent[index] = with_luma(rng, sent[index])
            planes.append(sent[index] if kind else None)
        yield tuple(planes)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_filters_come_back(seed, directed):
    written = read = theirs = None
    for planes in sequence(seed, directed):
        encoder = FrameEncoder()
        written = write_filters(encoder, planes, written, directed)
        encoder.put_bits(5, 3)
        payload = encoder.finish()
        decoder, rans = FrameDecoder(payload), Rans(payload)
        read, theirs = read_filters(decoder, read, directed), reference.read_filters(rans, theirs, directed)
        assert decoder.get_bits(3)[0] == rans.bits(3) == 5
        decoder.finish()
        rans.check_end()
        for state in (written, read):
            assert state.planes == planes
        assert tuple(f and PlaneFilter(*f) for f in theirs.planes) == planes
        assert read.sent == written.sent


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
        coarse = PlaneFilter(four.coefficients[:: 4 // classes].copy())
        write_filters(encoder, (coarse, None, None), state)
        decoder = FrameDecoder(encoder.finish())
        decoder.get_flags(1, 14)
        assert [int(decoder.get_bits(n)[0]) for n in (1, 1, 2)] == [1, 1, classes - 1]
        assert not decoder.get(np.full((classes, 12), NEXT_TABLE)).any()


def test_eight_classes_start_from_four():
    four = draw(np.random.default_rng(2), 4)
    encoder = FrameEncoder()
    write_filters(encoder, (PlaneFilter(four.coefficients.repeat(2, 0), 2), None, None), FilterState((four, None, None), (four, None, None)), True)
    decoder = FrameDecoder(encoder.finish())
    decoder.get_flags(1, 14)
    assert [int(decoder.get_bits(n)[0]) for n in (1, 1, 2, 2)] == [1, 1, 3, 2]
    assert not decoder.get(np.full((8, 12), NEXT_TABLE)).any()


def test_filters_that_there_are_not_are_refused():
    wrong = [(np.zeros((3, 12), int), None, None), (None, np.zeros((2, 12), int), None), (np.zeros((1, 11), int), None, None), (np.full((1, 12), 32), None, None)]
    for planes in wrong:
        for directed in (False, True):
            with pytest.raises(UsageError, match="loop filter"):
                write_filters(FrameEncoder(), tuple(c if c is None else PlaneFilter(c) for c in planes), None, directed)
    zeros = np.zeros((1, 12), int)
    for planes in ((PlaneFilter(zeros.repeat(8, 0)), None, None), (PlaneFilter(zeros, 1), None, None), (None, PlaneFilter(zeros, 0, zeros), None)):
        write_filters(FrameEncoder(), planes, None, True)
        with pytest.raises(UsageError, match="loop filter"):
            write_filters(FrameEncoder(), planes, None)
    for planes in ((PlaneFilter(zeros, 0, zeros), None, None), (None, PlaneFilter(zeros, 0, zeros + 32), None), (None, PlaneFilter(zeros, 0, zeros[:, :11]), None)):
        with pytest.raises(UsageError, match="loop filter"):
            write_filters(FrameEncoder(), planes, None, True)
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
            reference.read_filters(Rans(payload), None, False)
