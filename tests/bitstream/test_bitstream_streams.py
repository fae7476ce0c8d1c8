"""Whole streams: what was written comes back, from files and pipes; index and seeking; sizes; versions."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuralcodec.bitstream import (
    Chapter,
    Damage,
    EndOfStream,
    FramePacket,
    GopStart,
    HeaderCopy,
    Limits,
    Packet,
    StreamHeader,
    StreamIndex,
    StreamReader,
    StreamWriter,
    UnknownPacket,
)
from neuralcodec.bitstream.header import read_header, write_header
from neuralcodec.bitstream.packets import frame_packet
from neuralcodec.core.errors import LimitError, OutputError, StreamError, VersionError
from neuralcodec.core.types import ColourTags, SidePacket, SideStream, VideoProperties
from tests.bitstream.damage import crc, repair, split
from tests.bitstream.samples import HEADER, STEP, flat, make_stream


class Pipe(io.RawIOBase):
    """A file that can only be read forward, a few bytes at a time."""

    def __init__(self, data: bytes, piece: int = 1000):
        self._data, self._piece = io.BytesIO(data), piece

    def readable(self):
        return True

    def read(self, size=-1):
        assert size > 0
        return self._data.read(min(size, self._piece))


def items(data: bytes, **options) -> list[Packet]:
    return list(StreamReader(io.BytesIO(data), strict=True, **options))


def contents(data: bytes, type_: type) -> list:
    return [item.content for item in items(data) if isinstance(item.content, type_)]


# Headers -------------------------------------------------------------------------------------------------------------

positive_ratios = st.fractions(Fraction(1, 1000), 1000, max_denominator=10**6)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
maps = st.dictionaries(texts, texts, max_size=3)
videos = st.builds(
    VideoProperties,
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    time_base=positive_ratios,
    frame_rate=st.none() | positive_ratios,
    sample_aspect_ratio=positive_ratios,
    rotation=st.sampled_from((0, 90, 180, 270)),
    colour=st.builds(
        ColourTags,
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 255),
        st.sampled_from((None, False, True)),
        st.integers(0, 15),
    ),
    still=st.booleans(),
)
side_streams = st.builds(
    SideStream,
    kind=st.sampled_from(("audio", "subtitle", "data", "attachment")),
    codec=texts,
    time_base=positive_ratios,
    extradata=st.binary(max_size=50),
    disposition=st.integers(0, 2**32 - 1),
    parameters=maps,
    metadata=maps,
)
times = st.integers(-(2**60), 2**60 - 1)
headers = st.builds(
    StreamHeader,
    video=videos,
    model_id=st.binary(min_size=32, max_size=32),
    model_name=st.text("abcxyz-0", min_size=1, max_size=64),
    width_tables=st.sampled_from(((b"",), (b"\x00\x03\x01", b"\x02\x02\x02"), (bytes(range(4)) * 5,) * 16)),
    level_locked=st.booleans(),
    gop_size=st.integers(0, 2**31 - 1),
    quality=st.integers(0, 200),
    side_streams=st.lists(side_streams, max_size=2).map(tuple),
    metadata=maps,
    chapters=st.lists(st.builds(Chapter, times, times, positive_ratios, maps), max_size=2).map(tuple),
    encoder=texts,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(headers)
def test_header_round_trip(header):
    data = write_header(header)
    assert read_header(data, Limits()) == header
    assert write_header(read_header(data, Limits())) == data


@pytest.mark.parametrize(
    "change",
    [
        {"video": replace(HEADER.video, width=0)},
        {"video": replace(HEADER.video, height=65536)},
        {"video": replace(HEADER.video, rotation=45)},
        {"video": replace(HEADER.video, time_base=Fraction(0))},
        {"video": replace(HEADER.video, sample_aspect_ratio=Fraction(1, 2**31))},
        {"model_id": bytes(31)},
        {"model_name": ""},
        {"level": 4},
        {"level": 0},
        {"quality": 201},
        {"width_tables": (b"\x04",)},
        {"metadata": {"x" * 257: ""}},
        {"side_streams": (HEADER.side_streams[0],) * 257},
    ],
)
def test_header_out_of_range_is_not_written(change):
    file = io.BytesIO()
    with pytest.raises(StreamError):
        StreamWriter(file, replace(HEADER, **change))
    assert file.getvalue() == b""


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_width=1918),
        Limits(max_height=1078),
        Limits(max_pixels=1919 * 1079 - 1),
        Limits(max_header=100),
        Limits(max_side_streams=1),
        Limits(max_chapters=1),
        Limits(max_width_table=4),
    ],
)
def test_reader_limits_on_the_header(limits):
    with pytest.raises(LimitError):
        read_header(write_header(HEADER), limits)


def test_header_of_a_later_minor_version_is_read():
    data = bytearray(write_header(HEADER))
    data[9] = 7
    data[-4:-4] = b"a field of the future"
    assert read_header(repair(bytes(data), True), Limits()) == HEADER


@pytest.mark.parametrize(("at", "value"), [(8, 2), (8, 0), (14, 1)])
def test_unknown_version_or_feature_is_refused(at, value):
    data = bytearray(make_stream()[0])
    data[at] = value
    chunks = split(bytes(data))
    data = repair(chunks[0], True) + b"".join(chunks[1:])
    with pytest.raises(VersionError):
        StreamReader(io.BytesIO(data))


@pytest.mark.parametrize("data", [b"", b"\x89NVC", b"\0" * 500, b"RIFF" + bytes(40), make_stream()[0][:100]])
def test_what_is_no_stream_is_refused(data):
    for file in (io.BytesIO(data), Pipe(data)):
        with pytest.raises(StreamError):
            StreamReader(file)


# Packets -------------------------------------------------------------------------------------------------------------


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


# Index and seeking ---------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("type_", [12, 13, 14, 15])
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


# Writer --------------------------------------------------------------------------------------------------------------


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
