"""Corrections in a payload: what is written is read, by the reference decoder too; what cannot be is refused."""

import numpy as np
import pytest

from bitstream_spec.reference import corrections as reference
from bitstream_spec.reference.rans import Rans
from bitstream_spec.reference.rans import StreamError as ReferenceError
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.core.types import CORRECTION_STEPS, PlaneCorrections
from neuralcodec.entropy import FrameDecoder, FrameEncoder
from neuralcodec.entropy.corrections import (
    CONTEXTS,
    FIRST_ONES,
    MAX_LEVEL,
    NO_CORRECTIONS,
    CorrectionStatistics,
    correction_bits,
    read_corrections,
    write_corrections,
)
from neuralcodec.entropy.flag_statistics import COUNTED


def draw(rng, shape, share, largest=6):
    """Corrections of about this share of the blocks, some of them beside each other."""
    seeds = rng.random(shape) < share
    coded = (seeds | np.roll(seeds, 1, 1)) & (rng.random(shape) < 0.8)
    where = np.flatnonzero(coded)
    magnitudes = np.floor((largest + 1) * rng.random((len(where), 4, 4)) ** 6).astype(np.int64)
    return PlaneCorrections(int(rng.integers(0, CORRECTION_STEPS)), where, rng.random(len(where)) < 0.4, magnitudes * rng.choice([-1, 1], magnitudes.shape))


def shapes(rows, columns):
    return (4 * rows, 4 * columns), (2 * rows, 2 * columns), (2 * rows, 2 * columns)


def same(a, b):
    return (a is None) == (b is None) and (a is None or (a.step == b.step and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("where", "plain", "levels"))))


def of_reference(plane):
    if plane is None:
        return None
    where = np.array(list(plane.blocks), np.int64)
    plain = np.array([p for p, _ in plane.blocks.values()], bool)
    return PlaneCorrections(plane.step, where, plain, np.array([levels for _, levels in plane.blocks.values()], np.int64).reshape(-1, 4, 4))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (6, 2), (9, 80)])
@pytest.mark.parametrize("seed", range(3))
def test_corrections_come_back(rows, columns, seed):
    """Those of a group's frames, with planes and frames without any, and levels up to the largest; in (9, 80) a turn's flags are read in several strips."""
    rng, of_planes = np.random.default_rng(seed), shapes(rows, columns)
    written, read, theirs = CorrectionStatistics(), CorrectionStatistics(), None
    for share, largest in ((0.02, 3), (0.3, 6), (0.0, 1), (0.1, MAX_LEVEL), (0.9, 9)):
        planes = tuple(draw(rng, s, share, largest) if share and rng.integers(0, 4) else None for s in of_planes)
        encoder = FrameEncoder()
        state = write_corrections(encoder, planes, of_planes, written)
        encoder.put_bits(5, 3)
        payload = encoder.finish()
        decoder, rans = FrameDecoder(payload), Rans(payload)
        found = read_corrections(decoder, of_planes, read)
        theirs = reference.read_corrections(rans, rows, columns, theirs)
        assert decoder.get_bits(3)[0] == rans.bits(3) == 5
        decoder.finish()
        rans.check_end()
        assert all(same(a, b) for a, b in zip(found.planes, planes, strict=True))
        assert all(same(of_reference(a), b) for a, b in zip(theirs.planes, planes, strict=True))
        assert np.array_equal(found.statistics.counts, state.statistics.counts) and theirs.counts == [tuple(c) for c in state.statistics.counts.tolist()]
        written, read = state.statistics, found.statistics
    assert (written.counts.sum(1) <= COUNTED).all()


def test_both_decoders_begin_with_the_same_counts():
    assert list(FIRST_ONES) == reference.FIRST and len(reference.FIRST) == CONTEXTS == len(CorrectionStatistics().counts)


def test_none_cost_next_to_nothing():
    encoder, before = FrameEncoder(), CorrectionStatistics()
    for _ in range(200):
        assert write_corrections(encoder, NO_CORRECTIONS, shapes(3, 4), before).statistics is before
    assert 8 * len(encoder.finish()) < 40


def test_bits_are_reckoned_as_they_come():
    rng, of_planes = np.random.default_rng(5), shapes(30, 40)
    plane = draw(rng, of_planes[0], 0.1, 20)
    encoder = FrameEncoder()
    after = write_corrections(encoder, (plane, None, None), of_planes, CorrectionStatistics()).statistics
    bits, expected = correction_bits(plane, of_planes[0], CorrectionStatistics())
    assert np.array_equal(after.counts, expected.counts)
    assert 8 * len(encoder.finish()) == pytest.approx(bits, rel=0.01, abs=70)


def test_probabilities_follow_what_was_coded():
    """Ten times the same corrections: the later ones cost less than the first, all of whose levels are 7."""
    of_planes, statistics, bits = shapes(10, 10), CorrectionStatistics(), []
    plane = PlaneCorrections(9, np.arange(0, 1600, 3), np.zeros(534, bool), np.full((534, 4, 4), 7))
    for _ in range(3):
        cost, statistics = correction_bits(plane, of_planes[0], statistics)
        bits.append(cost)
    assert bits[1] < bits[0] and bits[2] <= bits[1]


def test_damaged_ones_are_refused_or_others():
    """Never a crash; the reference decoder agrees on which payloads have no corrections."""
    rng, of_planes = np.random.default_rng(7), shapes(4, 5)
    encoder = FrameEncoder()
    write_corrections(encoder, tuple(draw(rng, s, 0.2, 40) for s in of_planes), of_planes, CorrectionStatistics())
    payload = encoder.finish()
    refused = 0
    for _ in range(60):
        damaged = bytearray(payload)
        damaged[int(rng.integers(0, len(payload)))] ^= 1 << int(rng.integers(0, 8))
        found = []
        for reader, error in ((lambda d: read_corrections(FrameDecoder(d), of_planes, CorrectionStatistics()).planes, StreamError),
                              (lambda d: [of_reference(p) for p in reference.read_corrections(Rans(d), 4, 5, None).planes], ReferenceError)):
            try:
                found.append(reader(bytes(damaged)))
            except error:
                found.append(None)
        ours, theirs = found
        refused += ours is None
        assert (ours is None) == (theirs is None) and (ours is None or all(same(a, b) for a, b in zip(ours, theirs, strict=True)))
    assert refused < 60


def test_a_level_that_there_is_not_is_refused():
    of_planes = shapes(1, 1)
    levels = np.zeros((1, 4, 4), np.int64)
    levels[0, 2, 1] = MAX_LEVEL
    encoder = FrameEncoder()
    write_corrections(encoder, (PlaneCorrections(0, np.array([3]), np.array([True]), levels), None, None), of_planes, CorrectionStatistics())
    payload = encoder.finish()
    assert read_corrections(FrameDecoder(payload), of_planes, CorrectionStatistics()).planes[0].levels[0, 2, 1] == MAX_LEVEL
    for plane in (
        PlaneCorrections(0, np.array([3]), np.array([True]), levels + levels),
        PlaneCorrections(CORRECTION_STEPS, np.array([3]), np.array([True]), levels),
        PlaneCorrections(0, np.array([16]), np.array([True]), levels),
        PlaneCorrections(0, np.array([3, 3]), np.array([True, False]), np.repeat(levels, 2, 0)),
        PlaneCorrections(0, np.array([3]), np.array([True]), levels[0]),
    ):
        with pytest.raises(UsageError):
            write_corrections(FrameEncoder(), (plane, None, None), of_planes, CorrectionStatistics())


def test_too_large_a_level_in_a_payload_is_refused(monkeypatch):
    of_planes = shapes(1, 1)
    monkeypatch.setattr("neuralcodec.entropy.corrections.MAX_LEVEL", 2 * MAX_LEVEL)
    encoder = FrameEncoder()
    write_corrections(encoder, (PlaneCorrections(0, np.array([0]), np.array([False]), np.full((1, 4, 4), MAX_LEVEL + 1)), None, None), of_planes, CorrectionStatistics())
    payload = encoder.finish()
    monkeypatch.undo()
    with pytest.raises(StreamError, match="level"):
        read_corrections(FrameDecoder(payload), of_planes, CorrectionStatistics())
    with pytest.raises(ReferenceError, match="level"):
        reference.read_corrections(Rans(payload), 1, 1, None)
