"""Whole streams: what was written comes back, from files and pipes, in few bytes; what a writer refuses."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcodec.bitstream import (
    EndOfStream,
    FramePacket,
    GopStart,
    HeaderCopy,
    Packet,
    StreamIndex,
    StreamReader,
    StreamWriter,
)
from neuralcodec.core.errors import OutputError, StreamError
from neuralcodec.core.types import SidePacket
from tests.bitstream.damage import crc, split
from tests.bitstream.samples import HEADER, STEP, Pipe, flat, make_stream

times = st.integers(-(2**60), 2**60 - 1)


def items(data: bytes, **options) -> list[Packet]:
    return list(StreamReader(io.BytesIO(data), strict=True, **options))


def contents(data: bytes, type_: type) -> list:
    return [item.content for item in items(data) if isinstance(item.content, type_)]


@pytest.mark.parametrize("pipe", [False, True])
def test_what_was_written_comes_back(pipe):
    data, groups, side = make_stream()
    reader = StreamReader(Pipe(data) if pipe else io.BytesIO(data), strict=True)
    assert reader.header == HEADER
    seen = list(reader)
    assert [item.content for item in seen if isinstance(item.content, FramePacket)] == flat(groups)
    assert [item.content for item in seen if isinstance(item.content, SidePacket)] == side
    starts = [item.content for item in seen if isinstance(item.content, GopStart)]
    assert starts == [GopStart(8 * g, 8 * g * STEP, STEP, STEP, 100) for g in range(4)]
    assert [type(item.content) for item in seen[-3:]] == [HeaderCopy, StreamIndex, EndOfStream]
    # The packets lie side by side and fill the file.
    assert seen[0].offset == reader.header_size
    assert all(a.offset + a.size == b.offset for a, b in pairwise(seen))
    assert seen[-1].offset + seen[-1].size == len(data)


def test_real_pipes_both_ways():
    source, sink = os.pipe()

    def write():
        with os.fdopen(sink, "wb", buffering=0) as file:
            file.write(make_stream(groups=20, size=20000)[0])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(source, "rb") as file:
        reader = StreamReader(file, strict=True)
        assert reader.index() is None
        frames = [item.content for item in reader if isinstance(item.content, FramePacket)]
        with pytest.raises(StreamError):
            reader.seek_gop(0)
    thread.join()
    assert frames == flat(make_stream(groups=20, size=20000)[1])


frames_strategy = st.lists(
    st.tuples(times, st.integers(0, 2**40), st.integers(0, 200), st.integers(0, 500), st.binary(max_size=200)),
    min_size=1,
    max_size=6,
)


@given(frames_strategy, times, st.integers(0, 2**40), st.data())
def test_frame_round_trip(values, start, step, data):
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    writer.start_gop(start, frame_step=step)
    written = []
    for order, (pts, duration, quality, display, payload) in enumerate(values):
        references = data.draw(st.lists(st.integers(1, order), max_size=16).map(tuple)) if order else ()
        frame = FramePacket(
            order == 0, pts, payload, (64 * order % 256,), duration, quality, references, display, order
        )
        writer.write_frame(frame)
        written.append(frame)
    writer.finish()
    assert contents(file.getvalue(), FramePacket) == written
    index = StreamReader(io.BytesIO(file.getvalue())).index()
    assert index.frame_count == len(values)
    assert index.duration == max(v[0] + v[1] for v in values) - min(v[0] for v in values)


@given(st.none() | times, st.none() | times, st.integers(0, 2**60 - 1), st.booleans(), st.binary(max_size=50))
def test_side_packet_round_trip(pts, dts, duration, keyframe, payload):
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    packet = SidePacket(1, payload, pts, dts, duration, keyframe)
    writer.write_side(packet)
    writer.finish()
    assert contents(file.getvalue(), SidePacket) == [packet]


def ordinary_framing(modes: tuple[int, ...], payload: int, frames: int = 40) -> list[int]:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    writer.start_gop(0, frame_step=STEP)
    for i in range(frames):
        writer.write_frame(FramePacket(i == 0, i * STEP, bytes(payload), modes, STEP))
    writer.finish()
    found = [
        item for item in items(file.getvalue()) if isinstance(item.content, FramePacket) and not item.content.intra
    ]
    return sorted({item.framing for item in found})


def test_framing_of_an_ordinary_p_frame_is_small():
    assert ordinary_framing((0, 0), 50) == [8]
    assert ordinary_framing((0, 0), 300) == [9]
    assert ordinary_framing((0, 0), 20000) == [10]
    # Both latents with a parameter, and a payload of up to 2 MB.
    assert ordinary_framing((255, 64), 300) == [11]
    assert ordinary_framing((255, 64), 20000) == [12]
    # A latent in two parts.
    assert ordinary_framing((0, 0, 0), 300) == [9]
    assert ordinary_framing((255, 64, 128), 300) == [12]
    assert ordinary_framing((255, 64, 128), 20000) == [13]


def test_groups_of_more_frames_than_the_order_field_counts():
    data, groups, _ = make_stream(groups=1, frames=600, size=20)
    assert contents(data, FramePacket) == groups[0]
    chunks = split(data)
    lost = [i for i, chunk in enumerate(chunks) if chunk[0] >> 4 == 3][400]
    with pytest.raises(StreamError):
        items(b"".join([*chunks[:lost], *chunks[lost + 1 :]]))


def test_same_input_same_bytes_as_ever():
    # The format is a promise: when this changes, the version does, and old files must still be read.
    assert hashlib.sha256(make_stream()[0]).hexdigest() == GOLDEN


GOLDEN = "5fc43d66291f157c553b7bb61f293470cd34b524b31029bb4381b99a70b4036b"


def test_files_without_frames_or_side_streams():
    file = io.BytesIO()
    StreamWriter(file, replace(HEADER, side_streams=())).finish()
    assert [type(item.content) for item in items(file.getvalue())] == [HeaderCopy, StreamIndex, EndOfStream]
    assert StreamReader(io.BytesIO(file.getvalue())).index() == StreamIndex(0, 0, len(split(file.getvalue())[1]), ())


def test_stream_may_start_anywhere_in_its_file():
    data, groups, _ = make_stream()
    file = io.BytesIO(b"something before" + data)
    file.seek(16)
    reader = StreamReader(file, strict=True)
    assert reader.index().entries[2].first_frame == 16
    reader.seek_gop(2)
    assert [item.content for item in reader if isinstance(item.content, FramePacket)] == flat(groups[2:])


def test_writer_refuses_what_is_out_of_order_or_range_and_writes_nothing():
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    frame = FramePacket(True, 0, b"x")

    def refused(call, *args, **kwargs):
        size = len(file.getvalue())
        with pytest.raises(StreamError):
            call(*args, **kwargs)
        assert len(file.getvalue()) == size

    refused(writer.write_frame, frame)
    refused(writer.start_gop, 2**60)
    refused(writer.start_gop, 0, quality=201)
    writer.start_gop(0)
    refused(writer.start_gop, 0)
    refused(writer.finish)
    for change in (
        {"intra": False},
        {"decode_order": 1},
        {"display_order": -1},
        {"references": (1,)},
        {"quality": 201},
        {"duration": -1},
        {"pts": 2**60},
        {"modes": (1,)},
    ):
        refused(writer.write_frame, replace(frame, **change))
    writer.write_frame(frame)
    refused(writer.write_frame, frame)
    refused(writer.write_frame, replace(frame, intra=False, references=(2,)))
    refused(writer.write_frame, replace(frame, intra=False, references=(1,) * 17))
    refused(writer.write_side, SidePacket(2, b"", 0, 0))
    refused(writer.write_side, SidePacket(-1, b"", 0, 0))
    refused(writer.write_side, SidePacket(0, b"", 0, 0, -1))
    writer.finish()
    refused(writer.finish)
    refused(writer.write_side, SidePacket(0, b"", 0, 0))
    assert [item.content.payload for item in items(file.getvalue()) if isinstance(item.content, FramePacket)] == [b"x"]


def test_full_disk_is_an_output_error():
    class Full(io.RawIOBase):
        def write(self, data):
            raise OSError("No space left on device")

    with pytest.raises(OutputError):
        StreamWriter(Full(), HEADER)


def test_crc_of_every_packet_covers_all_of_it():
    header, *packets = split(make_stream()[0])
    for packet in packets:
        assert crc(packet[:-4]) == packet[-4:]
    assert crc(header[:-4]) == header[-4:]
