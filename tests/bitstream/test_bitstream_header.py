"""The stream header: comes back as written, or is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuralcodec.bitstream import (
    Chapter,
    Limits,
    StreamHeader,
    StreamReader,
    StreamWriter,
)
from neuralcodec.bitstream.header import read_header, write_header
from neuralcodec.core.errors import LimitError, StreamError, VersionError
from neuralcodec.core.types import ColourTags, SideStream, VideoProperties
from tests.bitstream.damage import repair, split
from tests.bitstream.samples import HEADER, Pipe, make_stream

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


@pytest.mark.parametrize(("at", "value"), [(8, 2), (8, 0), (14, 128)])
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
