"""Bare pictures: a short header, one frame packet, and nothing else."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import pytest

from neuralcodec.bitstream import (
    Attachment,
    Chapter,
    Damage,
    FramePacket,
    Limits,
    Packet,
    StreamReader,
    StreamWriter,
    TilePacket,
    model_key,
)
from neuralcodec.bitstream.header import read_header, write_header
from neuralcodec.bitstream.packets import frame_packet
from neuralcodec.core.errors import LimitError, StreamError, VersionError
from tests.bitstream.damage import damaged_variants, repair, split
from tests.bitstream.samples import AUDIO, BARE, BARE_FRAME, UNTIMED, Pipe, make_bare

HEADER_SIZE, FRAMING = 42, 10


DATA = make_bare()


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("behind", [b"", b"bytes that do not count", DATA])
def test_it_comes_back_as_written_and_nothing_behind_it_counts(pipe, behind):
    reader = StreamReader(Pipe(DATA + behind) if pipe else io.BytesIO(DATA + behind), strict=True)
    assert reader.header == BARE and reader.header_size == HEADER_SIZE
    (item,) = reader
    assert item == Packet(HEADER_SIZE, len(DATA) - HEADER_SIZE, FRAMING, BARE_FRAME)
    assert not list(reader)


def test_its_framing_is_a_third_of_what_others_have():
    whole = make_bare(UNTIMED)
    assert len(DATA) == HEADER_SIZE + FRAMING + len(BARE_FRAME.payload)
    assert len(whole) - len(BARE_FRAME.payload) > 3 * (HEADER_SIZE + FRAMING)
    assert [i.content for i in StreamReader(io.BytesIO(whole), strict=True) if isinstance(i.content, FramePacket)] == [BARE_FRAME]


def test_other_qualities_levels_and_formats_come_back():
    video = replace(BARE.video, gray=False, width=1, height=65535, rotation=0)
    header = replace(BARE, quality=0, level=16, level_locked=True, loop_filter=False, directed=False, video=video)
    assert read_header(write_header(header), Limits()) == header
    assert StreamReader(io.BytesIO(make_bare(header, replace(BARE_FRAME, quality=7)))).header == header
    (item,) = StreamReader(io.BytesIO(make_bare(header, replace(BARE_FRAME, quality=7))))
    assert item.content.quality == 7


def test_the_key_is_of_the_model_and_of_its_tables():
    assert BARE.model_id == model_key(UNTIMED.model_id, UNTIMED.width_tables) and len(BARE.model_id) == 8
    others = {model_key(bytes(32), UNTIMED.width_tables), model_key(UNTIMED.model_id, UNTIMED.width_tables[:2]), model_key(UNTIMED.model_id, UNTIMED.width_tables[::-1])}
    assert len(others | {BARE.model_id}) == 4


@pytest.mark.parametrize("change", [
    {"metadata": {"title": "a picture"}}, {"side_streams": (AUDIO,)}, {"chapters": (Chapter(0, 1, Fraction(1), {}),)}, {"encoder": "ncodec"}, {"gop_size": 0},
    {"model_name": "flagship"}, {"width_tables": UNTIMED.width_tables}, {"model_id": UNTIMED.model_id}, {"model_id": bytes(7)}, {"tile_size": 64, "loop_filter": False, "directed": False},
    {"video": replace(BARE.video, still=False)}, {"video": replace(BARE.video, time_base=Fraction(1, 24))}, {"video": replace(BARE.video, frame_rate=Fraction(25))},
    {"video": replace(BARE.video, sample_aspect_ratio=Fraction(2))}, {"video": replace(BARE.video, gray=False, full_chroma=True)}, {"hypotheses": True},
    {"sparse": True}, {"loop_filter": False}, {"loop_filter": False, "directed": False, "corrected": True}, {"level": 0}, {"quality": 201}])
def test_a_header_that_says_more_is_not_written(change):
    with pytest.raises(StreamError):
        write_header(replace(BARE, **change))


@pytest.mark.parametrize("features", [64 + 1, 64 + 2, 64 + 4, 64 + 8, 64 + 32])
def test_features_that_it_cannot_have_are_refused(features):
    header = split(DATA)[0]
    with pytest.raises(StreamError):
        read_header(repair(header[:14] + bytes([features]) + header[15:], True), Limits())


def test_fields_of_a_later_minor_version_are_passed_over_and_limits_hold():
    header = split(DATA)[0]
    assert read_header(repair(header[:-4] + b"more" + header[-4:], True), Limits()) == BARE
    with pytest.raises(LimitError):
        read_header(header, Limits(max_width=BARE.video.width - 1))
    with pytest.raises(LimitError):
        read_header(header, Limits(max_pixels=BARE.video.width * BARE.video.height - 1))
    with pytest.raises(VersionError):
        read_header(repair(header[:8] + b"\x02" + header[9:], True), Limits())


def test_the_writer_takes_one_frame_alone():
    def opened() -> StreamWriter:
        writer = StreamWriter(io.BytesIO(), BARE)
        writer.start_gop(0)
        return writer

    for arguments in ({"pts": 1}, {"pts": 0, "frame_step": 1}, {"pts": 0, "frame_duration": 1}, {"pts": 0, "quality": BARE.quality + 1}):
        with pytest.raises(StreamError):
            StreamWriter(io.BytesIO(), BARE).start_gop(**arguments)
    with pytest.raises(StreamError):
        opened().finish()
    for call in (lambda w: w.write_frame(replace(BARE_FRAME, intra=False, decode_order=1, display_order=1)), lambda w: w.start_gop(0),
                 lambda w: w.write_tile(TilePacket(0, b"")), lambda w: w.write_attachment(Attachment(1, b""))):
        writer = opened()
        size = writer.write_frame(BARE_FRAME)
        assert writer.position == HEADER_SIZE + size
        with pytest.raises(StreamError):
            call(writer)
        assert writer.position == HEADER_SIZE + size


@pytest.mark.parametrize("body", [
    b"", DATA[HEADER_SIZE:-1], DATA[HEADER_SIZE:-1] + b"\0", bytes([DATA[HEADER_SIZE] ^ 16]) + DATA[HEADER_SIZE + 1 :], frame_packet(0x30, b"\0\0x"), frame_packet(0x95, b"not known"),
    frame_packet(0x20, b"\x01\0payload"), frame_packet(0x20, b"\0\x04payload"), bytes(200000)])
@pytest.mark.parametrize("pipe", [False, True])
def test_damage_reaches_to_the_end(body, pipe):
    data = DATA[:HEADER_SIZE] + body
    reader = StreamReader(Pipe(data) if pipe else io.BytesIO(data))
    (item,) = reader
    assert isinstance(item, Damage) and (item.offset, item.size, item.breaks_group) == (HEADER_SIZE, len(body), True)
    with pytest.raises(StreamError):
        list(StreamReader(io.BytesIO(data), strict=True))


def test_there_is_nothing_to_seek():
    reader = StreamReader(io.BytesIO(DATA))
    assert reader.index() is None and reader.scan().frame_count == 1 and not reader.scan().entries
    with pytest.raises(StreamError):
        reader.seek_gop(0)
    (item,) = reader
    assert item.content == BARE_FRAME


def test_hundreds_of_damaged_ones_give_typed_errors():
    refused = lost = 0
    for variant in damaged_variants(DATA, 400, 3):
        try:
            items = list(StreamReader(io.BytesIO(variant.data)))
        except StreamError:
            refused += 1
            continue
        assert len(items) == 1
        lost += isinstance(items[0], Damage)
        if not variant.repaired and isinstance(items[0], Packet):
            assert items[0].content == BARE_FRAME
    assert refused > 50 and lost > 50
