"""Side packets stand in a stream where their time is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from neuralcodec.core.types import Frame, SidePacket, SideStream, VideoProperties
from neuralcodec.pipeline import interleave
from neuralcodec.pipeline.interleave import by_time

VIDEO = VideoProperties(2, 2, Fraction(1, 10))
SIDES = (SideStream("audio", "aac", Fraction(1, 100)), SideStream("subtitle", "subrip", Fraction(1, 100)))
PLANES = tuple(np.zeros((n, n), np.uint8) for n in (2, 1, 1))


def side(stream: int, pts: int | None, duration: int = 4) -> SidePacket:
    return SidePacket(stream, b"", pts, pts, duration)


def order(items) -> list:
    return [("frame", i.pts) if isinstance(i, Frame) else (i.stream, i.pts) for i in by_time(items, VIDEO, SIDES)]


def test_sound_that_runs_ahead_waits_for_its_picture():
    sound = [side(0, 4 * n) for n in range(8)]
    frames = [Frame(PLANES, n, 1) for n in range(3)]
    # The frame at 0.1 s begins inside of the packet from 0.08 to 0.12 s, which therefore comes after it.
    expected = [
        ("frame", 0),
        (0, 0),
        (0, 4),
        ("frame", 1),
        (0, 8),
        (0, 12),
        (0, 16),
        ("frame", 2),
        (0, 20),
        (0, 24),
        (0, 28),
    ]
    assert order([*sound, *frames]) == expected


def test_a_long_subtitle_does_not_wait_for_its_end():
    items = [side(1, 0, 500), Frame(PLANES, 0, 1), Frame(PLANES, 1, 1)]
    assert order(items) == [("frame", 0), (1, 0), ("frame", 1)]


def test_packets_of_a_stream_keep_their_order_and_those_without_time_pass():
    items = [side(0, 30), side(0, 4), side(1, None), Frame(PLANES, 0, 1), Frame(PLANES, 1, 1)]
    assert order(items) == [(1, None), ("frame", 0), ("frame", 1), (0, 30), (0, 4)]


def test_few_packets_wait(monkeypatch):
    monkeypatch.setattr(interleave, "MOST_WAITING", 2)
    items = [*(side(0, 50 + n) for n in range(4)), Frame(PLANES, 0, 1)]
    assert order(items) == [(0, 50), (0, 51), ("frame", 0), (0, 52), (0, 53)]
