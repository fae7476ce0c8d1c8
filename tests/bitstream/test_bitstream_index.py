"""Index, seeking, unknown packets."""

from __future__ import annotations

import io

import pytest

from neuralcodec.bitstream import (
    Damage,
    FramePacket,
    GopStart,
    Packet,
    StreamReader,
    UnknownPacket,
)
from neuralcodec.bitstream.packets import frame_packet
from neuralcodec.core.errors import StreamError, VersionError
from neuralcodec.core.types import SidePacket
from tests.bitstream.damage import split
from tests.bitstream.samples import STEP, flat, make_stream


def items(data: bytes, **options) -> list[Packet]:
    return list(StreamReader(io.BytesIO(data), strict=True, **options))


def contents(data: bytes, type_: type) -> list:
    return [item.content for item in items(data) if isinstance(item.content, type_)]


def test_index_and_scan_agree():
    data, groups, _ = make_stream()
    reader = StreamReader(io.BytesIO(data))
    index = reader.index()
    assert index.frame_count == 32
    assert index.duration == 32 * STEP
    assert [entry.first_frame for entry in index.entries] == [0, 8, 16, 24]
    assert reader.scan().entries == index.entries
    assert reader.scan().frame_count == index.frame_count
    assert [index.gop_of_frame(frame) for frame in (0, 7, 8, 31)] == [0, 0, 1, 3]
    for frame in (-1, 32):
        with pytest.raises(StreamError):
            index.gop_of_frame(frame)
    # Neither moves the iteration.
    assert [item.content for item in reader if isinstance(item.content, FramePacket)] == flat(groups)


@pytest.mark.parametrize("finish", [True, False])
def test_any_group_alone_equals_the_same_group_of_the_whole(finish):
    data, groups, _ = make_stream(finish=finish)
    reader = StreamReader(io.BytesIO(data))
    assert (reader.index() is None) != finish
    for number in (3, 0, 2, 1, 1):
        gop = reader.seek_gop(number)
        frames = []
        for item in reader:
            if isinstance(item.content, GopStart) and item.content != gop:
                break
            if isinstance(item.content, FramePacket):
                frames.append(item.content)
            if len(frames) == 8:
                break
        assert frames == groups[number]
    with pytest.raises(StreamError):
        reader.seek_gop(4)


def test_stream_without_an_end_plays():
    data, groups, side = make_stream(finish=False)
    *seen, last = StreamReader(io.BytesIO(data))
    assert [item.content for item in seen if isinstance(item.content, FramePacket)] == flat(groups)
    assert [item.content for item in seen if isinstance(item.content, SidePacket)] == side
    assert isinstance(last, Damage) and last.offset == len(data) and last.size == 0
    with pytest.raises(StreamError):
        list(StreamReader(io.BytesIO(data), strict=True))


def test_index_that_is_wrong_about_places_is_not_believed():
    data, groups, _ = make_stream()
    chunks = split(data)
    chunks.insert(5, frame_packet(0x90, bytes(100)))
    reader = StreamReader(io.BytesIO(b"".join(chunks)))
    assert reader.index().entries != reader.scan().entries
    reader.seek_gop(3)
    assert [item.content for item in reader if isinstance(item.content, FramePacket)] == groups[3]


# Unknown packets -----------------------------------------------------------------------------------------------------


def with_packet(packet: bytes) -> bytes:
    chunks = split(make_stream()[0])
    return b"".join([*chunks[:6], packet, *chunks[6:]])


@pytest.mark.parametrize("type_", [8, 9, 10, 11])
def test_unknown_packets_are_passed_over(type_):
    seen = items(with_packet(frame_packet(type_ << 4 | 5, b"whatever")))
    assert [item.content for item in seen if isinstance(item.content, FramePacket)] == flat(make_stream()[1])
    assert [item.content for item in seen if isinstance(item.content, UnknownPacket)] == [
        UnknownPacket(type_, b"whatever")
    ]


@pytest.mark.parametrize("type_", [13, 14, 15])
def test_unknown_critical_packets_are_refused(type_):
    with pytest.raises(VersionError):
        list(StreamReader(io.BytesIO(with_packet(frame_packet(type_ << 4, b"")))))


def test_frame_extension_is_skipped():
    chunks = split(make_stream(groups=1)[0])
    at = next(i for i, chunk in enumerate(chunks[1:], 1) if chunk[0] == 0x30)
    body_at = 2 if chunks[at][1] < 128 else 3
    extended = chunks[at][body_at : body_at + 1] + b"\x03abc" + chunks[at][body_at + 1 : -4]
    chunks[at] = frame_packet(0x38, extended)
    assert contents(b"".join(chunks), FramePacket) == make_stream(groups=1)[1][0]
